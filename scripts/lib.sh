# shellcheck shell=bash disable=SC2034,SC1091
# What the scripts have in common: messages, finding or installing what is needed, running as the user who may own a
# database. It is sourced, and knows nothing of clusters or of the demo.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# Settings of the caller's own psql would send ours elsewhere.
unset PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGDATABASE PGOPTIONS PGSERVICE PGSSLMODE PGTZ PGDATESTYLE PGCLIENTENCODING PGAPPNAME

say() { printf '%s\n' "$*"; }
note() { printf '%s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" -eq 0 ]; }

# The value of an option that needs one: need_value --dir "${2-}"
need_value() { [ -n "${2-}" ] || die "$1 needs a value (see --help)"; }
need_number() { [[ "${2-}" =~ ^[0-9]+$ ]] || die "$1 needs a number, not '${2-}'"; }

# The comment at the head of a script is its help.
print_help() { awk 'NR == 1 { next } /^#/ { sub(/^# ?/, ""); print; next } { exit }' "$1"; }

# --- Packages ---------------------------------------------------------------------------------------------------------

as_admin() {
    if is_root; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "'$*' needs root, and there is no sudo: run it as root, then try again"
    fi
}

APT_UPDATED=
apt_install() {
    have apt-get || die "missing: $*. Only Debian and Ubuntu are installed automatically; install it and try again"
    note "installing with apt-get: $*"
    if [ -z "$APT_UPDATED" ]; then
        as_admin apt-get -qq update >&2 || note "apt-get update failed; trying with the lists as they are"
        APT_UPDATED=yes
    fi
    as_admin env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >&2 ||
        die "apt-get could not install: $*"
}

ensure_rust() {
    if ! have cargo && [ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]; then . "${CARGO_HOME:-$HOME/.cargo}/env"; fi
    have cargo || die "cargo is missing: install the Rust toolchain from https://rustup.rs, then try again"
    have cc || apt_install gcc libc6-dev
}

# rustfmt and clippy come with the toolchain, except with its minimal profile.
ensure_rust_component() {
    ! cargo "${1/rustfmt/fmt}" --version >/dev/null 2>&1 || return 0
    have rustup || die "$1 is missing, and there is no rustup to add it"
    rustup component add "$1" >&2 || die "rustup could not add $1"
}

# Newest first; PATH is the last resort.
find_postgres() {
    local bin
    while read -r bin; do
        if [ -x "$bin/initdb" ] && [ -x "$bin/pg_basebackup" ] && [ -x "$bin/psql" ]; then
            printf '%s\n' "$bin"
            return 0
        fi
    done < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -t/ -k5,5 -V -r)
    bin=$(command -v initdb) || return 1
    dirname "$(readlink -f "$bin")"
}

# Debian's package would start a server of its own on 5432: told not to, for this installation only.
install_postgres() {
    local switch=/etc/postgresql-common/createcluster.d/pgshunt.conf
    apt_install postgresql-common
    as_admin mkdir -p "${switch%/*}"
    printf 'create_main_cluster = false\n' | as_admin tee "$switch" >/dev/null
    # A package too old to look into createcluster.d has its switch in one file.
    local whole=/etc/postgresql-common/createcluster.conf edited=
    if ! grep -qs '^include_dir' "$whole"; then
        as_admin sh -c "echo 'create_main_cluster = false # pgshunt' >>'$whole'"
        edited=yes
    fi
    apt_install postgresql
    as_admin rm -f "$switch"
    [ -z "$edited" ] || as_admin sed -i '/# pgshunt$/d' "$whole"
}

# Sets PGBIN; PG_BIN=/some/bin in the environment chooses another installation.
ensure_postgres() {
    if [ -n "${PG_BIN-}" ]; then
        [ -x "$PG_BIN/initdb" ] || die "PG_BIN=$PG_BIN has no initdb"
        PGBIN=$PG_BIN
        return
    fi
    PGBIN=$(find_postgres) && return
    install_postgres
    PGBIN=$(find_postgres) || die "PostgreSQL was installed, but no initdb is in /usr/lib/postgresql/*/bin"
}

# --- The user who owns the servers ------------------------------------------------------------------------------------

# PostgreSQL refuses to run as root. Sets OWNER: ourselves, or the postgres user, or one made for it.
ensure_owner() {
    if ! is_root; then
        OWNER=$(id -un)
    elif id -u postgres >/dev/null 2>&1; then
        OWNER=postgres
    elif have useradd && { id -u pgshunt >/dev/null 2>&1 || useradd --system --user-group --no-create-home pgshunt; }; then
        OWNER=pgshunt
    else
        OWNER=nobody
    fi
}

# From / because the owner may not be allowed to look into the current folder.
as_owner() (
    cd /
    if ! is_root; then
        "$@"
    elif have runuser; then
        runuser -u "$OWNER" -- "$@"
    else
        setpriv --reuid="$OWNER" --regid="$(id -g "$OWNER")" --init-groups "$@"
    fi
)

# --- Ports and processes ----------------------------------------------------------------------------------------------

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Runs a command until it succeeds, for so many seconds.
wait_until() {
    local seconds=$1 until
    shift
    until=$((SECONDS + seconds))
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.1
    done
}
