#!/bin/sh
# A copy of a machine runs this before it answers anybody: what the machine made for itself at its first start is
# made anew, and servers that hold the old are told. Copies of a machine without this file keep what it has.
set -eu

# Whether systemd takes orders.
is_managed() {
    [ -e /run/systemd/private ]
}

# Whether one of these files is there.
is_any() {
    for file in "$@"; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

# hold PID_FILE NAME: has a server that reads its secret when it begins take nobody from now on.
hold() {
    server=
    { read -r pid <"$1" && read -r name <"/proc/$pid/comm"; } 2>/dev/null || return 0
    if [ "$name" = "$2" ]; then
        server=$pid
        kill -STOP "$pid"
    fi
}

# begin_anew PID_FILE [SERVICE]: has it begin anew. It writes its number when it has read the secret and opened its
# port, another number where it goes to the background; its connections go on. One that writes its number nowhere is
# started anew by systemd.
begin_anew() {
    if [ "$server" ]; then
        rm -f "$1"
        kill -HUP "$server"
        kill -CONT "$server"
        n_looks=0
        until [ -s "$1" ]; do
            n_looks=$((n_looks + 1))
            [ "$n_looks" -lt 250 ] || { echo "The server of $1 does not come back" >&2; exit 1; }
            sleep 0.02
        done
    elif [ "${2-}" ] && is_managed; then
        systemctl try-restart "$2"
    fi
}

# restart SERVICE...: those that run. systemd refuses starts that it counts too many of, as in forks of forks.
restart() {
    if is_managed; then
        systemctl reset-failed "$@" || :
        systemctl try-restart "$@"
    elif command -v rc-service >/dev/null; then
        for service in "$@"; do
            rc-service --ifexists --ifstarted "${service%.service}" restart
        done
    fi
}

# reload SERVICE...: has those that run read the secret again.
reload() {
    if is_managed; then
        systemctl try-reload-or-restart "$@"
    fi
}
