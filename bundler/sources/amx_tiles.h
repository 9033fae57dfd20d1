/* Included before each file of llama.cpp that GCC compiles. GCC's own _tile_loadconfig, up to 12 at least, tells the
   compiler that 8 of the configuration's 64 bytes are read (amxtileintrin.h: a pointer's length), so the rest, which a
   function writes just before, is left out as never used. Tiles without rows end whoever touches one (SIGILL): with
   Debian 12's GCC that is every engine on a processor with AMX. Here the instruction reads all 64. */
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%X0" : : "m"(*(const char(*)[64])(config)))
#endif
