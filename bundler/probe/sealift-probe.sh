#!/bin/sh
# Asks this machine what a release for it must fit, and writes one small JSON file that you can read in full.
#
#   sh sealift-probe.sh                print the file, change nothing
#   sh sealift-probe.sh -o FILE        show the facts, ask, then write FILE (-y: do not ask)
#   sh sealift-probe.sh -n ...         leave out the list of installed packages
#   sh sealift-probe.sh -r DIR ...     read /proc, /sys and /etc below DIR (a machine's image)
#
# It needs no root, no network and no python. It reads kinds and versions only: no host name, no address, no account, no
# serial number. What it cannot find out stays empty. Format: docs/format.md, PROBE-1 to PROBE-9.
set -u
LC_ALL=C
export LC_ALL
umask 022

out='' ask=yes with_packages=yes root=''
while getopts 'o:r:nyh' option; do
  case $option in
    o) out=$OPTARG ;;
    r) root=$OPTARG ;;
    n) with_packages=no ;;
    y) ask=no ;;
    h) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
if [ $# -ne 0 ]; then
  printf 'error: unknown argument\n  fix: sh sealift-probe.sh -h\n' >&2
  exit 2
fi

has() { command -v "$1" >/dev/null 2>&1; }

# The first line of stdin that is wholly of the form $1, or nothing.
only() { grep -E -x -m 1 "$1" || :; }

short='[0-9]{1,3}\.[0-9]{1,3}'
word='[a-z0-9][a-z0-9._-]{0,31}'

from_release() {
  sed -n "s/^$1=//p" "$root/etc/os-release" 2>/dev/null | tr -d "\"'" | only "$word"
}

to_short() { sed -n 's/^[^0-9]*\([0-9]\{1,3\}\.[0-9]\{1,3\}\).*/\1/p' | only "$short"; }

# Lines of stdin as a JSON list of texts. They are filtered before: no quote, no backslash.
to_list() { awk 'BEGIN { printf "[" } { printf "%s\"%s\"", (NR > 1 ? "," : ""), $0 } END { printf "]" }'; }

architecture=$(uname -m | only "$word")
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null | only '[1-9][0-9]{0,3}')
[ -n "$cores" ] || cores=$(grep -c '^processor' "$root/proc/cpuinfo" 2>/dev/null)
memory=$(awk '/^MemTotal:/ { printf "%d\n", $2 / 1024; exit }' "$root/proc/meminfo" 2>/dev/null | only '[1-9][0-9]{0,8}')
flags=$(sed -n 's/^\(flags\|Features\)[[:space:]]*:[[:space:]]*//p' "$root/proc/cpuinfo" 2>/dev/null | head -n 1 |
  tr ' ' '\n' | grep -E -x '[a-z0-9][a-z0-9_.-]{0,31}' | sort -u)

glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed -n 's/^glibc //p' | to_short)
musl=''
if [ -z "$glibc" ] && has ldd; then
  case $(ldd 2>&1 | head -n 1) in
    musl*) musl=$(ldd 2>&1 | sed -n 's/^Version //p' | to_short) ;;
  esac
fi

kernel=$(uname -r | to_short)
python=''
has python3 && python=$(python3 -V 2>&1 | sed -n 's/^Python //p' | to_short)

driver=$(sed -n '/^NVRM/s/.*[[:space:]]\([0-9]\{2,4\}\.[0-9.]*[0-9]\)[[:space:]].*/\1/p' \
  "$root/proc/driver/nvidia/version" 2>/dev/null | only '[0-9]{1,4}(\.[0-9]{1,6}){1,3}')
cuda=''
gpu_lines=''
if [ -n "$driver" ] && has nvidia-smi; then
  cuda=$(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p' | to_short)
  # name, memory in MiB, 0xDEVICEVENDOR
  gpu_lines=$(nvidia-smi --query-gpu=name,memory.total,pci.device_id --format=csv,noheader,nounits 2>/dev/null |
    awk -F', *' 'NF == 3 {
      name = $1; gsub(/[^A-Za-z0-9 ()\/+._-]/, "", name); name = substr(name, 1, 64); sub(/ +$/, "", name)
      id = tolower($3); sub(/^0x/, "", id)
      if (name ~ /^[A-Za-z0-9]/ && id ~ /^[0-9a-f]+$/ && length(id) == 8)
        printf "%s\t%s:%s\t%09d\n", name, substr(id, 5), substr(id, 1, 4), $2 + 0
    }')
fi
if [ -z "$gpu_lines" ]; then
  # No driver yet: the bus names the kind of device.
  gpu_lines=$(for device in "$root"/sys/bus/pci/devices/*; do
    [ -r "$device/class" ] || continue
    read -r class <"$device/class"; read -r vendor <"$device/vendor"; read -r kind <"$device/device"
    case $class:$vendor in
      0x03*:0x10de | 0x03*:0x1002 | 0x12*:0x1002) printf '\t%s:%s\t%09d\n' "${vendor#0x}" "${kind#0x}" 0 ;;
    esac
  done)
fi
gpus=$(printf '%s\n' "$gpu_lines" | sed '/^$/d' | sort | uniq -c | awk '
  BEGIN { printf "[" }
  {
    count = $1; line = $0; sub(/^ *[0-9]+ /, "", line); split(line, part, "\t")
    printf "%s{\"count\":%d,\"memory_mib\":%d,\"name\":\"%s\",\"pci\":\"%s\"}", (NR > 1 ? "," : ""), count, part[3], part[1], part[2]
  }
  END { printf "]" }')

packages=null
package_count='not asked'
if [ "$with_packages" = yes ] && has dpkg-query; then
  listed=$(dpkg-query -W -f '${db:Status-Abbrev}|${Package} ${Version} ${Architecture}\n' 2>/dev/null |
    sed -n 's/^.i.*|//p' | sort -u)
  form='[a-z0-9][a-z0-9.+-]{1,99} [0-9][A-Za-z0-9.+:~-]{0,99} [a-z0-9][a-z0-9-]{0,19}'
  if [ -n "$listed" ] && [ -z "$(printf '%s\n' "$listed" | grep -E -v -x "$form")" ]; then
    packages=$(printf '%s\n' "$listed" | to_list)
    package_count=$(printf '%s\n' "$listed" | wc -l | tr -d ' ')
  fi
fi

if [ -z "$architecture" ] || [ -z "$cores" ] || [ -z "$memory" ] || [ -z "$glibc$musl" ]; then
  printf 'error: this machine does not say what it is\n  why: architecture %s, cores %s, memory %s MiB, C library %s\n' \
    "$architecture" "$cores" "$memory" "$glibc$musl" >&2
  printf '  fix: fill in the form by hand (sealift-bundler probe form)\n' >&2
  exit 1
fi

render() {
  printf '{"architecture":"%s","codename":"%s","cores":%d,"cpu_flags":' \
    "$architecture" "$(from_release VERSION_CODENAME)" "$cores"
  printf '%s' "$flags" | sed '/^$/d' | to_list
  printf ',"cuda":"%s","distribution":"%s","driver":"%s","format":1,"glibc":"%s","gpus":%s,"kernel":"%s","memory_mib":%d' \
    "$cuda" "$(from_release ID)" "$driver" "$glibc" "$gpus" "$kernel" "$memory"
  printf ',"musl":"%s","packages":%s,"product":"sealift-probe","python":"%s","release":"%s"}\n' \
    "$musl" "$packages" "$python" "$(from_release VERSION_ID)"
}

if [ -z "$out" ]; then
  render
  exit 0
fi

text=$(render)
# In full, a value a line: whoever carries it out answers for all of it.
printf '%s\n' "$text" | sed 's/,"/,\n  "/g' >&2
printf 'packages: %s\nbytes: %s\n' "$package_count" "$(printf '%s\n' "$text" | wc -c | tr -d ' ')" >&2
if [ "$ask" = yes ]; then
  printf 'Nothing else is written. Write this to the file? [y/N] ' >&2
  read -r answer || answer=''
  case $answer in
    y | Y | yes) ;;
    *) printf 'nothing was written\n' >&2; exit 1 ;;
  esac
fi
# -C: a file that is there is somebody else's.
set -C
if ! printf '%s\n' "$text" >"$out"; then
  printf 'error: the file could not be written\n  fix: name a file that does not exist yet\n' >&2
  exit 1
fi
