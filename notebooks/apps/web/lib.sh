# What the server and its CGI scripts share. Read with:  . /srv/web/lib.sh

# Everything that is written while it runs goes here; the rest of the container stays as it was built.
run=${RUN_DIR:-/tmp/web}

# Docker sets HOSTNAME. Asking the shell instead of a program starts no process: that keeps the start short.
replica=${REPLICA:-${HOSTNAME:-$(hostname)}}

# A colour for each version: eight that colour-blind readers can tell apart, all dark enough for white letters.
colour_of() {
    number=${1//[!0-9]/}
    number=${number:0:6}
    # Without its zeros in front: "08" would be read as an octal number.
    number=${number#"${number%%[!0]*}"}
    set -- 4a5568 1565c0 00796b b3541e 8e3a80 2e7d32 7a5c00 b3263e
    shift $((${number:-0} % 8))
    echo "#$1"
}

# answer STATUS TYPE: the head of a CGI answer.
answer() {
    printf 'Status: %s\r\nContent-Type: %s\r\nCache-Control: no-store\r\nConnection: close\r\n' "$1" "$2"
    printf 'X-Version: %s\r\nX-Replica: %s\r\n\r\n' "$VERSION" "$replica"
}
