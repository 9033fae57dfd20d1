"""Every limit of format version 1, with its unit. Limits are code, not configuration.

They are checked before the parser that they protect runs, and a value exactly at the limit is accepted (FMT-40).
"""

# JSON, read by canonical
JSON_BYTES = 16 * 2**20  # one JSON document
JSON_DEPTH = 32  # arrays and objects inside each other
JSON_CONTAINERS = 2_000_000  # opening brackets, also those inside strings
INTEGER_MAX = 2**53 - 1  # RFC 8785: what every JSON reader holds exactly
TEXT_CHARS = 1024  # one single-line text field
LONG_TEXT_CHARS = 65536  # one text field that may hold lines

# Names, judged by layout
PATH_CHARS = 240  # a path below release/; leaves room for a mount point within 255
NAME_CHARS = 128  # one part of a path
PATH_PARTS = 12

# Lists of files
MANIFEST_BYTES = 32 * 2**20
FILES = 100_000  # entries of one manifest, targets of one release
BAG_INFO_BYTES = 4096
VOLUMES = 99
BLOCKS_PER_FILE = 65_536  # 4 TiB in blocks of 64 MiB
SITES = 256
MODELS = 256  # of one release
TARGET_MACHINES = 64
CHECKPOINTS = 256
SERIAL_MAX = 10**9
BASE_SERIALS = 64  # releases that the base of a delta set consists of
SIGNINGS = 1000  # versions that a serial's timestamp may have, from serial * 1000 on

# What leaves a site
INVENTORY_BYTES = 16 * 2**20
EVIDENCE_BYTES = 2**20
FIGURES_BYTES = 256 * 2**10

# Signatures and people
SIGNATURE_BYTES = 16 * 1024  # one detached signature; Ed25519 takes 119, RSA-4096 566
CERTIFICATE_BYTES = 64 * 1024  # one minimal certificate
SIGNED_BYTES = 64 * 2**20  # what one OpenPGP signature covers
PEOPLE = 64
KEYS_PER_PERSON = 8  # of each kind
SIGNATURES = 64  # in one envelope or metadata file
SIGNATURE_HEX_CHARS = 2 * 8192  # ML-DSA-87 takes 9254
ENVELOPE_BYTES = 48 * 2**20  # an SBOM in base64
PAYLOAD_BYTES = 32 * 2**20

# Custody
CUSTODY_ENTRY_BYTES = 64 * 1024
CUSTODY_ENTRIES = 256
SEALS = 32
