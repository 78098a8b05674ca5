# Prepares a Debian or Ubuntu machine; sourced by quickstart, test and bench. Works as root and as a user with sudo.
# shellcheck shell=bash

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# The unprivileged user that runs containers when the script itself is run by root.
ordinary_user=${RCTR_TEST_USER:-rctr-test}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
[ -d "${CARGO_HOME:-$HOME/.cargo}/bin" ] && PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
export PATH

note() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}
is_root() { [ "$(id -u)" = 0 ]; }
as_root() { if is_root; then "$@"; else sudo "$@"; fi; }

# Runs a command as the ordinary user, with a clean environment, in a directory that everybody can read. What stands
# in before_user is run first, still as root, and runs the rest.
before_user=()
as_user() {
	if ! is_root; then
		"$@"
		return
	fi
	local home
	home=$(getent passwd "$ordinary_user" | cut -d: -f6)
	(cd / && exec "${before_user[@]}" setpriv --reuid="$ordinary_user" --regid="$ordinary_user" --clear-groups \
		env -i HOME="$home" USER="$ordinary_user" TERM="${TERM:-dumb}" LANG=C.UTF-8 \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@")
}

# need_packages REQUIRED|WANTED NAME...: installs what is missing, in one go; without WANTED ones it goes on.
need_packages() {
	local kind=$1 missing=() name
	shift
	for name in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
	done
	[ ${#missing[@]} = 0 ] && return
	command -v apt-get >/dev/null || die "apt-get is needed to install: ${missing[*]}"
	is_root || command -v sudo >/dev/null || die "root or sudo is needed to install: ${missing[*]}"
	note "installing ${missing[*]}"
	if [ -z "${apt_lists_are_fresh:-}" ]; then
		as_root apt-get -q -q update </dev/null >&2 || note "apt-get update failed; trying with the lists that are there"
		apt_lists_are_fresh=yes
	fi
	local install=(env DEBIAN_FRONTEND=noninteractive apt-get -q -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends)
	as_root "${install[@]}" "${missing[@]}" </dev/null >/dev/null && return
	[ "$kind" = REQUIRED ] && die "cannot install ${missing[*]}"
	for name in "${missing[@]}"; do
		as_root "${install[@]}" "$name" </dev/null >/dev/null 2>&1 || note "not to be had here: $name"
	done
}

# A Rust toolchain that is new enough, from rustup where the distribution has that.
need_rust() {
	local wanted have
	wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$source_dir/Cargo.toml")
	if ! command -v cargo >/dev/null; then
		need_packages WANTED rustup
		command -v rustup >/dev/null || die "Rust $wanted or newer is needed: install it with rustup (https://rustup.rs), then run this again"
		rustup -q default stable >&2 || die "rustup cannot fetch a Rust toolchain: $wanted or newer is needed"
	fi
	have=$(cargo --version | cut -d' ' -f2)
	printf '%s\n%s\n' "$wanted" "$have" | sort -VC ||
		die "Rust $wanted or newer is needed, $(command -v cargo) is $have: run 'rustup update', or install rustup (https://rustup.rs) if there is none"
	need_packages REQUIRED gcc libc6-dev
}

# The ordinary user: who is root gets one, others are it; with subordinate ids either way. One script at a time: two
# would give the same ids away. The lock is on /etc, which everybody can open.
need_user() { (
	flock 9
	name=$ordinary_user
	if is_root; then
		id "$name" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$name"
	else
		name=$(id -un)
	fi
	for file in /etc/subuid /etc/subgid; do
		grep -q "^$name:" "$file" 2>/dev/null && continue
		start=$(awk -F: 'BEGIN {end = 100000} $2 + $3 > end {end = $2 + $3} END {print end}' "$file" 2>/dev/null || echo 100000)
		note "giving $name subordinate ids from $start on, in $file"
		echo "$name:$start:65536" | as_root tee -a "$file" >/dev/null
	done
) 9</etc; }

# What stands in the way of unprivileged containers on some machines.
open_host() {
	local device
	for device in /dev/net/tun /dev/fuse; do
		[ -e "$device" ] || as_root modprobe "${device##*/}" 2>/dev/null || true
		if [ -e "$device" ] && ! as_user test -w "$device"; then as_root chmod 666 "$device" || true; fi
	done
	if [ "$(cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns 2>/dev/null)" = 1 ]; then
		note "until the next boot, AppArmor lets every program make user namespaces (kernel.apparmor_restrict_unprivileged_userns=0)"
		as_root sysctl -q -w kernel.apparmor_restrict_unprivileged_userns=0 || true
	fi
	if [ "$(cat /proc/sys/kernel/unprivileged_userns_clone 2>/dev/null)" = 0 ]; then
		note "until the next boot, users may make user namespaces (kernel.unprivileged_userns_clone=1)"
		as_root sysctl -q -w kernel.unprivileged_userns_clone=1 || true
	fi
}

# built PROFILE: where cargo put the binary.
built() {
	local target
	target=$(rustc -vV | sed -n 's/^host: //p')
	printf '%s/%s/%s/rctr\n' "${CARGO_TARGET_DIR:-$source_dir/target}" "$target" "$1"
}
