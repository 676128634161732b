#!/usr/bin/env bash
# Everything that wants a GPU, in one command and without a network: see docs/evidence/performance.md.
#
#   benchmarks/throughput/gpu.sh [--wheels FOLDER] [--weights FOLDER] [--output FOLDER]
#                     [--skip a,b] [--only a,b] [--minutes 25] [--toy]
#
# Each part runs in a process of its own, for its share of the time that is left, and writes
# FOLDER/<part>.json at its end. A part whose file is there is not run again. FOLDER/summary.json
# is rewritten after every part.
#
# Exit status: 0 all is well, 1 a part failed or a check was not passed, 2 it cannot run here,
# 3 a part is out of time (the same command goes on with it).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
wheels="" weights="" output=gpu-results skip="" only="" minutes=25 toy=""
grace=5 # seconds between asking a part to end and ending it

die() {
    echo "gpu.sh: $*" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
        --toy) toy=--toy ;;
        --wheels | --weights | --output | --skip | --only | --minutes)
            [ $# -ge 2 ] || die "$1 needs a value"
            printf -v "${1#--}" %s "$2"
            shift
            ;;
        -h | --help)
            sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) die "$1 is not known; --help says what is" ;;
    esac
    shift
done

parts() { "$python" "$here/gpu_parts.py" "$@"; }

# Does a list with commas hold a word?
holds() { [[ ",$1," == *",$2,"* ]]; }

# Install what the package needs and the machine lacks; PyTorch stays as it is.
install() {
    local missing=() each
    "$python" -c 'import importlib.util as u; raise SystemExit(u.find_spec("torch") is None)' ||
        die "$python has no PyTorch; install it first, or name another Python in PYTHON"
    mapfile -t missing < <(parts unmet)
    if [ -n "${missing[*]}" ]; then
        [ -n "$wheels" ] || die "not installed here: ${missing[*]}; --wheels FOLDER names their wheels"
        with_wheels "${missing[@]}" || die "not all of ${missing[*]} can be installed from $wheels"
    fi
    for each in bitsandbytes trl; do # parts say so where these are missing
        if [ -n "$wheels" ] && compgen -G "$wheels/$each-*.whl" >/dev/null; then
            with_wheels "$each" || echo "gpu.sh: $each cannot be installed from $wheels" >&2
        fi
    done
}

with_wheels() {
    parts constraints >"$output/constraints.txt"
    "$python" -m pip install --quiet --no-index --find-links "$wheels" \
        --constraint "$output/constraints.txt" "$@"
}

# Run one part in its own process; its state goes into the summary.
run_part() {
    local part=$1 limit=$2 since status=0 options=()
    since=$(date +%s)
    [ -z "$toy" ] || options+=("$toy")
    [ -z "$weights" ] || options+=(--weights "$weights")
    echo "== $part (at most $limit s)"
    timeout --kill-after="$grace" "$limit" "$python" "$here/gpu_parts.py" run "$part" \
        --folder "$output" "${options[@]}" >"$output/$part.log" 2>&1 || status=$?
    settle "$part" "$status" "$since" "$limit"
}

# Write what an exit status means.
settle() {
    local part=$1 status=$2 since=$3 limit=$4
    case $status in
        0) parts record "$part" --folder "$output" --state ok --since "$since" ;;
        4)
            parts record "$part" --folder "$output" --state failed --since "$since" \
                --reason "a check was not passed"
            ;;
        124 | 137)
            parts record "$part" --folder "$output" --state "out of time" --since "$since" \
                --reason "it had $limit s"
            ;;
        *)
            parts record "$part" --folder "$output" --state failed --since "$since" \
                --reason "exit status $status, see $part.log"
            ;;
    esac
}

skipped() { parts record "$1" --folder "$output" --state skipped --reason "$2"; }

[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--minutes is a number, not '$minutes'"
[ -z "$wheels" ] || [ -d "$wheels" ] || die "--wheels: there is no folder $wheels"
[ -z "$weights" ] || [ -f "$weights/config.json" ] || die "--weights: $weights has no config.json"
known=$(parts list) || die "$python cannot run benchmarks/throughput/gpu_parts.py"
for name in ${skip//,/ } ${only//,/ }; do
    grep -q "^$name " <<<"$known" || die "$name is no part; there are: $(cut -d' ' -f1 <<<"$known" | xargs)"
done
mkdir -p "$output"
end=$(($(date +%s) + $(awk "BEGIN { print int($minutes * 60) }")))
export PYTHONPATH="$here/../../src${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
install
if [ -z "$toy" ]; then
    "$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' ||
        die "PyTorch sees no GPU here; --toy tries the script on a CPU"
    if command -v nvidia-smi >/dev/null; then nvidia-smi -L; fi
fi

waiting=() shares=0
while read -r name share; do
    if holds "$skip" "$name" || { [ -n "$only" ] && ! holds "$only" "$name"; }; then
        [ -f "$output/$name.json" ] || skipped "$name" "not asked for"
    elif [ -f "$output/$name.json" ]; then
        echo "== $name is there already"
        status=0
        parts judge "$name" --folder "$output" || status=$?
        settle "$name" "$status" 0 0
    elif reason=$(parts lacks "$name") && [ -n "$reason" ]; then
        skipped "$name" "$reason"
    else
        waiting+=("$name $share")
        shares=$((shares + share))
    fi
done <<<"$known"

for each in "${waiting[@]+"${waiting[@]}"}"; do
    read -r name share <<<"$each"
    left=$((end - $(date +%s) - grace))
    limit=$((left > 0 ? left * share / shares : 0))
    shares=$((shares - share))
    if [ "$limit" -lt 1 ]; then
        parts record "$name" --folder "$output" --state "out of time" --reason "it was not begun"
    else
        run_part "$name" "$limit"
    fi
done

status=0
parts finish --folder "$output" || status=$?
echo "== all of it: $output/summary.json"
exit "$status"
