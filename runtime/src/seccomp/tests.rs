//! A filter is what its interpreter says: each rule is asked about through the program, never through our own tables.

use libc::sock_filter;

use super::arch::{Arch, X32_BIT};
use super::default::{self, Verdict};
use super::policy::Policy;
use super::profile::{KernelVersion, Profile, Subject};
use super::{Filter, SeccompError, program, syscalls};
use crate::caps;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// What the kernel would do: linux/filter.h on `struct seccomp_data`. Panics on what its verifier refuses.
fn run(program: &[sock_filter], audit: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(audit.to_le_bytes());
    data.extend([0; 8]);
    data.extend(args.iter().flat_map(|a| a.to_le_bytes()));
    let (mut pc, mut a) = (0usize, 0u32);
    loop {
        let i = program[pc];
        pc += 1;
        let k = i.k as usize;
        let mut branch = |holds| pc += usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            0x20 => a = u32::from_le_bytes(data[k..k + 4].try_into().unwrap()),
            0x54 => a &= i.k,
            0x05 => pc += k,
            0x15 => branch(a == i.k),
            0x25 => branch(a > i.k),
            0x35 => branch(a >= i.k),
            0x45 => branch(a & i.k != 0),
            0x06 => return i.k,
            code => panic!("instruction {code:#x}"),
        }
    }
}

/// A filter with the questions that one asks of it.
struct Asked(Vec<sock_filter>);

impl Asked {
    fn of(policy: &Policy) -> Self {
        Self(program::assemble(policy))
    }

    fn default(machine: Arch, capabilities: &[&str]) -> Self {
        let names: Vec<_> = capabilities.iter().map(|c| (*c).to_owned()).collect();
        Self::of(&default::policy(machine, caps::mask::of(&names)))
    }

    fn profile(json: &str, machine: Arch, capabilities: &[&str]) -> Self {
        let capabilities: Vec<_> = capabilities.iter().map(|c| (*c).to_owned()).collect();
        let subject = Subject {
            machine,
            kernel: KernelVersion(6, 1),
            capabilities: &capabilities,
        };
        Self::of(&Profile::parse(json).unwrap().policy(&subject))
    }

    fn number(&self, arch: Arch, number: u32, args: &[u64]) -> u32 {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        run(&self.0, arch.audit(), number, all)
    }

    fn call(&self, arch: Arch, name: &str, args: &[u64]) -> u32 {
        let number = syscalls::find(name).and_then(|c| c.number(arch));
        let number = number.unwrap_or_else(|| panic!("{name} isn't a call of {arch:?}"));
        self.number(arch, number, args)
    }
}

const MACHINES: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

#[test]
fn calls_are_sorted_and_no_number_is_used_twice() {
    assert!(syscalls::CALLS.is_sorted_by(|a, b| a.name < b.name));
    for arch in MACHINES.iter().flat_map(|m| m.family()) {
        let mut seen = std::collections::HashMap::new();
        for call in syscalls::CALLS {
            let Some(number) = call.number(*arch) else {
                continue;
            };
            if let Some(other) = seen.insert(number, call.name) {
                let names = [other, call.name];
                assert_eq!(
                    names,
                    ["arm_sync_file_range", "sync_file_range2"],
                    "{number}"
                );
            }
        }
        assert!(seen.len() > 300, "{arch:?}");
    }
}

#[test]
fn the_default_gives_every_call_its_verdict() {
    for machine in MACHINES {
        let plain = Asked::default(machine, &caps::DEFAULT);
        let everything = caps::all();
        let everything: Vec<_> = everything.iter().map(String::as_str).collect();
        let full = Asked::default(machine, &everything);
        for arch in machine.family() {
            for call in syscalls::CALLS {
                let Some(number) = call.number(*arch) else {
                    continue;
                };
                let (ordinary, privileged) = match call.verdict {
                    Verdict::Allow => (ALLOW, ALLOW),
                    Verdict::Deny => (EPERM, EPERM),
                    Verdict::Needs(caps::mask::SYS_CHROOT) => (ALLOW, ALLOW),
                    Verdict::Needs(_) => (EPERM, ALLOW),
                    Verdict::Clone | Verdict::Personality | Verdict::Socket => (ALLOW, ALLOW),
                    Verdict::Clone3 => (ENOSYS, ALLOW),
                    Verdict::Later => (ENOSYS, ENOSYS),
                };
                assert_eq!(
                    plain.number(*arch, number, &[]),
                    ordinary,
                    "{arch:?} {}",
                    call.name
                );
                assert_eq!(
                    full.number(*arch, number, &[]),
                    privileged,
                    "{arch:?} {}",
                    call.name
                );
            }
        }
    }
}

#[test]
fn the_default_refuses_namespaces_without_sys_admin() {
    for machine in MACHINES {
        let plain = Asked::default(machine, &caps::DEFAULT);
        let admin = Asked::default(machine, &["CAP_SYS_ADMIN"]);
        for arch in machine.family() {
            let fork = libc::SIGCHLD as u64;
            let thread = 0x3d_0f00;
            assert_eq!(plain.call(*arch, "clone", &[fork]), ALLOW);
            assert_eq!(plain.call(*arch, "clone", &[thread]), ALLOW);
            for bit in [17, 25, 26, 27, 28, 29, 30] {
                assert_eq!(
                    plain.call(*arch, "clone", &[fork | 1 << bit]),
                    EPERM,
                    "{bit}"
                );
                assert_eq!(
                    admin.call(*arch, "clone", &[fork | 1 << bit]),
                    ALLOW,
                    "{bit}"
                );
            }
            for name in ["unshare", "setns", "mount", "umount2", "fsopen", "bpf"] {
                assert_eq!(plain.call(*arch, name, &[]), EPERM, "{name}");
                assert_eq!(admin.call(*arch, name, &[]), ALLOW, "{name}");
            }
            assert_eq!(plain.call(*arch, "clone3", &[]), ENOSYS);
            assert_eq!(admin.call(*arch, "clone3", &[]), ALLOW);
            assert_eq!(admin.call(*arch, "pivot_root", &[]), EPERM);
        }
    }
}

#[test]
fn the_default_looks_at_arguments() {
    for machine in MACHINES {
        let filter = Asked::default(machine, &[]);
        for arch in machine.family() {
            for allowed in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
                assert_eq!(filter.call(*arch, "personality", &[allowed]), ALLOW);
            }
            for refused in [1, 0x0004_0000, 0x0040_0000, 1 << 32, 0xffff_ffff_ffff_ffff] {
                assert_eq!(filter.call(*arch, "personality", &[refused]), EPERM);
            }
            for family in [1, 2, 10, 16, 17, 39, 41] {
                assert_eq!(filter.call(*arch, "socket", &[family]), ALLOW, "{family}");
            }
            for family in [38, 40] {
                assert_eq!(filter.call(*arch, "socket", &[family]), EPERM, "{family}");
            }
        }
    }
}

#[test]
fn capabilities_open_their_calls_only() {
    let groups: &[(&str, &[&str])] = &[
        ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
        (
            "CAP_SYS_MODULE",
            &["init_module", "finit_module", "delete_module"],
        ),
        (
            "CAP_SYS_PTRACE",
            &["kcmp", "pidfd_getfd", "process_madvise"],
        ),
        ("CAP_SYS_TIME", &["settimeofday", "clock_settime"]),
        ("CAP_SYS_NICE", &["mbind", "set_mempolicy", "get_mempolicy"]),
        ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
        ("CAP_SYS_PACCT", &["acct"]),
        ("CAP_SYS_BOOT", &["reboot"]),
        ("CAP_SYS_CHROOT", &["chroot"]),
        ("CAP_SYSLOG", &["syslog"]),
        ("CAP_BPF", &["bpf"]),
        ("CAP_PERFMON", &["perf_event_open"]),
    ];
    for machine in MACHINES {
        for (granted, opened) in groups {
            let filter = Asked::default(machine, &[granted]);
            for name in groups.iter().flat_map(|(_, names)| *names) {
                let wanted = if opened.contains(name) { ALLOW } else { EPERM };
                assert_eq!(filter.call(machine, name, &[]), wanted, "{granted}: {name}");
            }
        }
    }
    let rawio = Asked::default(Arch::X86_64, &["CAP_SYS_RAWIO"]);
    assert_eq!(rawio.call(Arch::X86_64, "iopl", &[]), ALLOW);
    assert_eq!(rawio.call(Arch::X86, "ioperm", &[]), ALLOW);
}

#[test]
fn what_is_newer_than_the_profile_does_not_exist() {
    let filter = Asked::default(Arch::X86_64, &caps::DEFAULT);
    for arch in [Arch::X86_64, Arch::X86] {
        for number in [467, 468, 469, 470, 600, 0x3fff_ffff, u32::MAX] {
            assert_eq!(filter.number(arch, number, &[]), ENOSYS, "{number:#x}");
        }
    }
    assert_eq!(filter.number(Arch::X86_64, X32_BIT | 470, &[]), ENOSYS);
    assert_eq!(filter.number(Arch::X86_64, X32_BIT | 548, &[]), ENOSYS);
    // A hole within the known numbers is refused as a whole.
    assert_eq!(filter.number(Arch::X86_64, 400, &[]), EPERM);
    let filter = Asked::default(Arch::Aarch64, &caps::DEFAULT);
    assert_eq!(filter.number(Arch::Aarch64, 470, &[]), ENOSYS);
    assert_eq!(filter.number(Arch::Arm, 470, &[]), ENOSYS);
    assert_eq!(filter.number(Arch::Arm, 0xf0005, &[]), ALLOW, "set_tls");
    assert_eq!(filter.number(Arch::Arm, 0xf0007, &[]), ENOSYS);
}

#[test]
fn x32_has_its_own_numbers() {
    let filter = Asked::default(Arch::X86_64, &[]);
    for (name, number) in [
        ("read", 0),
        ("execve", 520),
        ("pwritev2", 547),
        ("io_submit", 544),
    ] {
        let call = syscalls::find(name).unwrap();
        assert_eq!(call.number(Arch::X32), Some(X32_BIT | number), "{name}");
        assert_eq!(filter.number(Arch::X86_64, X32_BIT | number, &[]), ALLOW);
    }
    assert_eq!(
        filter.number(Arch::X86_64, X32_BIT | 165, &[]),
        EPERM,
        "mount"
    );
    assert_eq!(syscalls::find("uselib").unwrap().number(Arch::X32), None);
}

#[test]
fn other_architectures_are_killed() {
    let x86 = Asked::default(Arch::X86_64, &[]);
    let arm = Asked::default(Arch::Aarch64, &[]);
    assert_eq!(run(&x86.0, Arch::Aarch64.audit(), 0, [0; 6]), KILL);
    assert_eq!(run(&arm.0, Arch::X86_64.audit(), 0, [0; 6]), KILL);
    assert_eq!(run(&arm.0, 0, 0, [0; 6]), KILL);
    let own = Asked::profile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#, Arch::X86_64, &[]);
    assert_eq!(own.number(Arch::X86_64, 1000, &[]), ALLOW);
    assert_eq!(own.number(Arch::X86_64, X32_BIT, &[]), ENOSYS);
    assert_eq!(own.number(Arch::X86, 0, &[]), KILL);
}

#[test]
fn comparisons_are_of_64_bits() {
    let values = [
        0,
        1,
        5,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 5,
        (5 << 32) + 1,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    type Holds = fn(u64, u64) -> bool;
    let ops: [(&str, Holds); 6] = [
        ("NE", |a, b| a != b),
        ("LT", |a, b| a < b),
        ("LE", |a, b| a <= b),
        ("EQ", |a, b| a == b),
        ("GE", |a, b| a >= b),
        ("GT", |a, b| a > b),
    ];
    for (op, holds) in ops {
        for value in values {
            for index in 0..6 {
                let json = format!(
                    r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                        "args": [{{"index": {index}, "value": {value}, "op": "SCMP_CMP_{op}"}}]}}]}}"#
                );
                let filter = Asked::profile(&json, Arch::X86_64, &[]);
                for argument in values {
                    let mut args = [7; 6];
                    args[index] = argument;
                    let wanted = if holds(argument, value) { ALLOW } else { EPERM };
                    let is = filter.call(Arch::X86_64, "ioctl", &args);
                    assert_eq!(is, wanted, "{argument:#x} {op} {value:#x}");
                }
            }
        }
    }
    for mask in values {
        for value in values {
            let json = format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                    "args": [{{"index": 1, "value": {mask}, "valueTwo": {value}, "op": "SCMP_CMP_MASKED_EQ"}}]}}]}}"#
            );
            let filter = Asked::profile(&json, Arch::X86_64, &[]);
            for argument in values {
                let wanted = if argument & mask == value {
                    ALLOW
                } else {
                    EPERM
                };
                let is = filter.call(Arch::X86_64, "ioctl", &[0, argument]);
                assert_eq!(is, wanted, "{argument:#x} & {mask:#x} == {value:#x}");
            }
        }
    }
}

#[test]
fn rules_of_a_profile_are_chosen_and_ordered() {
    let json = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_S390X", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW", "comment": "", "includes": {}, "excludes": {}},
            {"name": "write", "action": "SCMP_ACT_LOG"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.2"}},
            {"names": ["close"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["dup"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
            {"names": ["fcntl"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 2, "op": "SCMP_CMP_EQ"}]},
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]},
            {"names": ["prctl"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["prctl"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"}]}
        ]}"#;
    let filter = Asked::profile(json, Arch::X86_64, &[]);
    for arch in [Arch::X86_64, Arch::X86] {
        assert_eq!(filter.call(arch, "read", &[]), ALLOW);
        assert_eq!(filter.call(arch, "write", &[]), libc::SECCOMP_RET_LOG);
        assert_eq!(
            filter.call(arch, "mount", &[]),
            libc::SECCOMP_RET_ERRNO | 13
        );
        assert_eq!(filter.call(arch, "ptrace", &[]), ALLOW);
        assert_eq!(filter.call(arch, "kcmp", &[]), ENOSYS);
        assert_eq!(filter.call(arch, "close", &[]), ENOSYS);
        assert_eq!(filter.call(arch, "dup", &[]), libc::SECCOMP_RET_TRACE | 7);
        assert_eq!(filter.call(arch, "fcntl", &[0, 1, 2]), ALLOW);
        assert_eq!(filter.call(arch, "fcntl", &[0, 1, 3]), ENOSYS);
        assert_eq!(filter.call(arch, "ioctl", &[0, 1]), ALLOW);
        assert_eq!(filter.call(arch, "ioctl", &[0, 2]), ALLOW);
        assert_eq!(filter.call(arch, "ioctl", &[0, 3]), ENOSYS);
        assert_eq!(filter.call(arch, "prctl", &[4]), ALLOW);
        assert_eq!(filter.call(arch, "prctl", &[5]), KILL);
    }
    let admin = Asked::profile(json, Arch::X86_64, &["CAP_SYS_ADMIN"]);
    assert_eq!(admin.call(Arch::X86_64, "mount", &[]), ALLOW);
    let arm = Asked::profile(json, Arch::Aarch64, &[]);
    assert_eq!(arm.call(Arch::Aarch64, "close", &[]), ALLOW);
}

/// Every call with another errno: nothing can be merged, and the halves of the search are further apart than 255.
#[test]
fn long_programs_jump_far() {
    let calls = || {
        syscalls::CALLS
            .iter()
            .filter(|c| c.number(Arch::X86_64).is_some())
    };
    let entries: Vec<_> = calls()
        .enumerate()
        .map(|(i, c)| {
            format!(
                r#"{{"names": ["{}"], "action": "SCMP_ACT_ERRNO", "errnoRet": {}, "args": [{{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}}]}}"#,
                c.name,
                i + 100
            )
        })
        .collect();
    let json = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#,
        entries.join(",")
    );
    let filter = Asked::profile(&json, Arch::X86_64, &[]);
    for (i, call) in calls().enumerate() {
        let number = call.number(Arch::X86_64).unwrap();
        let errno = libc::SECCOMP_RET_ERRNO | u32::try_from(i + 100).unwrap();
        assert_eq!(filter.number(Arch::X86_64, number, &[1]), errno);
        assert_eq!(filter.number(Arch::X86_64, number, &[2]), ALLOW);
    }
    assert!(Filter::from_program(&filter.0).is_ok());
}

#[test]
fn bad_profiles_are_refused_with_the_place() {
    let error = |json: &str| match Profile::parse(json).unwrap_err() {
        SeccompError::Json {
            line,
            column,
            source,
        } => format!("{line}:{column}: {source}"),
        error => error.to_string(),
    };
    let text = error("{\n  \"defaultAction\": \"SCMP_ACT_MAYBE\"\n}");
    assert!(
        text.starts_with("2:") && text.contains("SCMP_ACT_MAYBE"),
        "{text}"
    );
    assert!(error("{\"syscalls\": []}").contains("defaultAction"));
    assert!(error("").contains("EOF"));
    assert!(error("[1]").starts_with("1:"));
    let entry = |entry: &str| {
        error(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW"}}, {entry}]}}"#
        ))
    };
    assert_eq!(
        entry(
            r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#
        ),
        "invalid seccomp profile: syscalls[1].args[0].index: system calls have arguments 0 to 5"
    );
    assert!(
        entry(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#).contains("syscalls[1].action")
    );
    assert!(
        entry(r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#)
            .contains("syscalls[1]: no system call")
    );
    assert!(
        entry(
            r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "new"}}"#
        )
        .contains("4.8")
    );
}

#[test]
fn filters_survive_serialisation() {
    let filter = Filter::from_program(&Asked::default(Arch::X86_64, &[]).0).unwrap();
    let text = serde_json::to_string(&filter).unwrap();
    assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
}

/// The filter is for one thread only, but can't be taken off: a process of its own tries it.
#[test]
fn the_kernel_follows_the_default() {
    let me = std::env::current_exe().unwrap();
    let child = std::process::Command::new(me)
        .args(["--exact", "seccomp::tests::under_the_filter", "--ignored"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

#[test]
#[ignore = "started by the_kernel_follows_the_default"]
fn under_the_filter() {
    use crate::sys::raw_call;
    let errno = |result: std::io::Result<libc::c_long>| result.unwrap_err().raw_os_error();
    let keep = caps::DEFAULT.map(str::to_owned);
    let filter = super::compile(&crate::plan::Seccomp::Default, &keep)
        .unwrap()
        .unwrap();
    nix::sys::prctl::set_no_new_privs().unwrap();
    super::install(&filter).unwrap();

    let refused = [
        libc::SYS_keyctl,
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_bpf,
        libc::SYS_swapoff,
    ];
    for number in refused {
        assert_eq!(
            errno(raw_call(number, [0; 4])),
            Some(libc::EPERM),
            "{number}"
        );
    }
    let user = libc::CLONE_NEWUSER as u64;
    assert_eq!(
        errno(raw_call(libc::SYS_unshare, [user, 0, 0, 0])),
        Some(libc::EPERM)
    );
    assert_eq!(
        errno(raw_call(libc::SYS_clone, [user | 17, 0, 0, 0])),
        Some(libc::EPERM)
    );
    assert_eq!(
        errno(raw_call(libc::SYS_clone3, [0; 4])),
        Some(libc::ENOSYS)
    );
    assert_eq!(errno(raw_call(libc::SYS_mount, [0; 4])), Some(libc::EPERM));
    assert_eq!(
        errno(raw_call(libc::SYS_socket, [40, 1, 0, 0])),
        Some(libc::EPERM)
    );
    assert_eq!(
        errno(raw_call(libc::SYS_personality, [0x0004_0000, 0, 0, 0])),
        Some(libc::EPERM)
    );
    assert_eq!(errno(raw_call(900, [0; 4])), Some(libc::ENOSYS));
    assert!(raw_call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0]).is_ok());
    assert!(raw_call(libc::SYS_socket, [1, 1, 0, 0]).is_ok());
    assert!(std::fs::read("/proc/self/status").is_ok());
    assert!(std::thread::spawn(|| 1).join().is_ok());
    let program = std::process::Command::new("/bin/sh")
        .args(["-c", "exit 7"])
        .status();
    assert_eq!(program.unwrap().code(), Some(7));
}
