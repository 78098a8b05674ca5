# Packages and a compiler of another architecture, without changing what the host has installed; sourced after host.sh.
# shellcheck shell=bash

# foreign_packages SUITE ARCH DIR NAME...: unpacks Debian packages of that release (bookworm, trixie) and architecture (Debian's
# name: amd64, arm64) below DIR. apt has its lists in a place of its own, beside what it has unpacked; mirrors and keys are the
# host's.
foreign_packages() {
	local suite=$1 arch=$2 into=$3 apt key mirrors name
	shift 3
	apt=$into/.apt-$suite-$arch
	mkdir -p "$apt"/{etc/apt.conf.d,etc/preferences.d,etc/sources.list.d,state/lists/partial,cache/archives/partial,debs}
	apt=$(cd "$apt" && pwd)
	: >"$apt/status"
	key=/usr/share/keyrings/debian-archive-keyring.gpg
	# The host's own mirrors of Debian and of its security updates, for that release.
	mirrors=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | sort -u |
		awk -v key="$key" -v suite="$suite" '
			$2 ~ /-security$/ && !security++ {print "deb [signed-by=" key "] " $1 " " suite "-security main"}
			$2 !~ /-/ && !main++ {print "deb [signed-by=" key "] " $1 " " suite " main"}')
	[ -n "$mirrors" ] || { note "no Debian mirror is configured here"; return 1; }
	printf '%s\n' "$mirrors" >"$apt/etc/sources.list"
	local options=(-q -q -o "Dir::Etc=$apt/etc" -o "Dir::Etc::sourcelist=$apt/etc/sources.list" -o "Dir::Etc::sourceparts=$apt/etc/sources.list.d"
		-o "Dir::Etc::parts=$apt/etc/apt.conf.d" -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
		-o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "APT::Update::Post-Invoke-Success=" -o APT::Sandbox::User=root
		-o Debug::NoLocking=1 -o Acquire::Languages=none)
	if [ ! -e "$apt/updated" ]; then
		apt-get "${options[@]}" update </dev/null >&2 || return 1
		: >"$apt/updated"
	fi
	for name in "$@"; do
		rm -f "$apt/debs/$name"_*.deb
		(cd "$apt/debs" && apt-get "${options[@]}" download "$name" </dev/null >&2) || return 1
		dpkg-deb -x "$apt/debs/$name"_*.deb "$into" || return 1
		rm -f "$apt/debs/$name"_*.deb
	done
}

# need_cross DIR: a compiler in DIR that builds for amd64 and arm64. rustup's standard libraries can't be used by another
# version of the compiler and aren't to be had everywhere, so both come from Debian.
need_cross() {
	local dir=$1
	need_packages REQUIRED gcc libc6-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	[ -e "$dir/complete" ] && return
	note "fetching a compiler for both architectures"
	rm -rf "$dir"
	mkdir -p "$dir"
	foreign_packages bookworm amd64 "$dir" rustc-web libstd-rust-web-dev || return 1
	# The compiler's own library and LLVM, by the versions that it wants.
	local needs
	needs=$(LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu ldd "$dir/usr/bin/rustc" | grep -c 'not found' || true)
	if [ "$needs" != 0 ]; then
		# shellcheck disable=SC2046
		foreign_packages bookworm amd64 "$dir" $(cross_libraries "$dir") || return 1
	fi
	foreign_packages bookworm arm64 "$dir" libstd-rust-web-dev || return 1
	rm -rf "$dir"/.apt-*
	: >"$dir/complete"
}

# What rustc-web depends on beside the C library, as apt tells.
cross_libraries() {
	local apt=$1/.apt-bookworm-amd64
	apt-cache -o "Dir::State=$apt/state" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o "Dir::Etc=$apt/etc" \
		-o "Dir::Etc::sourcelist=$apt/etc/sources.list" -o APT::Architecture=amd64 depends --recurse --no-recommends --no-suggests \
		--no-conflicts --no-breaks --no-replaces --no-enhances rustc-web 2>/dev/null |
		grep -oE '^(libstd-rust-web-[0-9.]+|libllvm[0-9]+)$' | sort -u
}

# Rust's name of an architecture.
rust_name() {
	case $1 in
	amd64) echo x86_64-unknown-linux-gnu ;;
	arm64) echo aarch64-unknown-linux-gnu ;;
	*) die "no such architecture: $1 (want amd64 or arm64)" ;;
	esac
}

# cross DIR ARCH CARGO-ARGUMENT...: cargo with that compiler. What comes out depends on the sources only: no path of this
# machine is in it.
cross() {
	local dir=$1 target prefix flags cargo_home=${CARGO_HOME:-$HOME/.cargo}
	target=$(rust_name "$2")
	prefix=${target%-unknown-linux-gnu}-linux-gnu
	shift 2
	printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$dir/usr/lib/x86_64-linux-gnu" "$dir/usr/bin/rustc" >"$dir/rustc"
	chmod 755 "$dir/rustc"
	flags="-C target-feature=+crt-static -C relocation-model=static -C link-arg=-Wl,--build-id=none"
	flags="$flags --remap-path-prefix=$source_dir=/rctr --remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$dir=/rust"
	local upper=${target//-/_}
	env RUSTC="$dir/rustc" CARGO_BUILD_TARGET="$target" \
		"CARGO_TARGET_${upper^^}_LINKER=$prefix-gcc" "CARGO_TARGET_${upper^^}_RUSTFLAGS=$flags" \
		"CC_$upper=$prefix-gcc" "AR_$upper=$prefix-ar" \
		"CFLAGS_$upper=-ffile-prefix-map=$source_dir=/rctr -ffile-prefix-map=$cargo_home=/cargo" \
		cargo "$@"
}

# need_emulator DIR: a program in DIR that runs arm64 programs here. Debian 12's knows no openat2, so it is a newer one's.
need_emulator() {
	[ -x "$1/usr/bin/qemu-aarch64" ] || foreign_packages trixie amd64 "$1" qemu-user || return 1
	rm -rf "$1"/.apt-*
}
