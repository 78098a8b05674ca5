//! Making processes and what one of them is: clone, exec, pidfd, prctl, IDs, signals, limits.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long, c_ulong};

use super::{check, check_fd};

/// What [`clone_process`] returned, as fork(2) does.
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the caller: the new process as seen from here.
    Parent {
        /// Its PID.
        pid: i32,
        /// A descriptor of it.
        pidfd: OwnedFd,
    },
}

/// Whether this process has one thread, or has so at once: pthread_join(3) returns when a thread has given up its memory,
/// a moment before the kernel takes it off the list. On a busy machine that moment is long.
fn is_alone() -> bool {
    // A directory's link count is 2 plus its subdirectories: one for each thread.
    let one = || {
        let task = std::fs::metadata("/proc/self/task");
        !task.is_ok_and(|task| std::os::unix::fs::MetadataExt::nlink(&task) > 3)
    };
    let end = std::time::Instant::now() + THREADS_END;
    while !one() {
        if std::time::Instant::now() > end {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    true
}

/// How long threads that were joined may take to vanish.
const THREADS_END: std::time::Duration = std::time::Duration::from_secs(1);

/// clone3(2) without shared memory: fork(2) into new namespaces. `flags` are `CLONE_NEW*` and `CLONE_PARENT`.
///
/// # Errors
/// As clone3(2); `EBUSY` when this process has more than one thread (the child gets a copy of memory in which another
/// thread may have held malloc's lock).
pub fn clone_process(flags: c_int) -> io::Result<Cloned> {
    if !is_alone() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: c_int = -1;
    let exit_signal = if flags & libc::CLONE_PARENT == 0 {
        libc::SIGCHLD as u64
    } else {
        0
    };
    // struct clone_args of linux/sched.h, version 0 (64 bytes).
    let mut args = [0u64; 8];
    args[0] = u64::from((flags | libc::CLONE_PIDFD) as u32);
    args[1] = &raw mut pidfd as u64;
    args[4] = exit_signal;
    // SAFETY: no CLONE_VM, so the child runs on its own copy of this stack; `args` outlives the call; no other thread.
    let result =
        check(unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) });
    let pid = match result {
        // A seccomp filter that can't look into clone3's arguments answers so (docker's profile, ours).
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && flags == 0 => return fork(),
        other => other?,
    };
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    let pid = i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: CLONE_PIDFD stored a new descriptor of ours there.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid, pidfd })
}

/// fork(2), for a caller that is known to have one thread.
fn fork() -> io::Result<Cloned> {
    // SAFETY: there is one thread, so the child may go on as if nothing had happened.
    match check(c_long::from(unsafe { libc::fork() }))? {
        0 => Ok(Cloned::Child),
        pid => {
            let pid =
                i32::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
            Ok(Cloned::Parent {
                pid,
                pidfd: pidfd_open(pid)?,
            })
        }
    }
}

/// execveat(2) of the file that `fd` stands for. `argv` and `envp` are null-terminated lists of C strings.
/// Returns only on failure.
pub fn exec_fd(fd: BorrowedFd<'_>, argv: &[&CStr], envp: &[&CStr]) -> io::Error {
    let list = |words: &[&CStr]| {
        let mut list: Vec<_> = words.iter().map(|w| w.as_ptr()).collect();
        list.push(std::ptr::null());
        list
    };
    let (argv, envp) = (list(argv), list(envp));
    // SAFETY: both lists end with a null pointer and point to C strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Whether this kernel and processor run 32-bit programs: where they don't, arm64's personality(2) refuses `PER_LINUX32`.
#[must_use]
pub fn runs_32_bit_programs() -> bool {
    const PER_LINUX32: c_ulong = 8;
    const ASK: c_ulong = 0xffff_ffff;
    // SAFETY: only integers are passed; the personality is put back at once.
    unsafe {
        let own = libc::personality(ASK);
        let taken = own >= 0 && libc::personality(PER_LINUX32) >= 0;
        if taken {
            libc::personality(own as c_ulong);
        }
        taken
    }
}

/// prctl(2) with integer arguments.
///
/// # Errors
/// As prctl(2).
pub fn prctl(option: c_int, arg2: c_ulong, arg3: c_ulong) -> io::Result<c_int> {
    // SAFETY: callers pass options that take integers only.
    let result = unsafe { libc::prctl(option, arg2, arg3, 0 as c_ulong, 0 as c_ulong) };
    check(c_long::from(result)).map(|r| r as c_int)
}

/// The program that `command` starts is killed when the thread that starts it ends (prctl(2) `PR_SET_PDEATHSIG`).
pub fn die_with_thread(command: &mut std::process::Command) {
    let ask = || prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0).map(drop);
    // SAFETY: between fork and exec the closure makes one system call and touches no lock nor heap.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, ask) };
}

/// Names this thread as ps(1) shows it; 15 bytes count (`PR_SET_NAME`).
pub fn set_name(name: &CStr) {
    // SAFETY: `name` is a C string; the kernel copies at most 16 bytes of it. It can't fail.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Whether processes of the same user, with no more capabilities, may trace this one and open what it has open (prctl(2)
/// `PR_SET_DUMPABLE`). Each exec makes it so.
pub fn set_dumpable(dumpable: bool) {
    // SAFETY: only integers are passed. It can't fail.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, c_ulong::from(dumpable)) };
}

/// pidfd_open(2) (Linux 5.3).
///
/// # Errors
/// As pidfd_open(2).
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: only integers are passed.
    check_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// pidfd_send_signal(2) (Linux 5.1).
///
/// # Errors
/// As pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    let null = std::ptr::null::<u8>();
    // SAFETY: no siginfo is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            null,
            0,
        )
    })
    .map(drop)
}

/// Sets the thread's user and group IDs by the kernel's calls, not glibc's (which would signal other threads).
///
/// # Errors
/// As setresuid(2).
pub fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the kernel reads `groups.len()` group IDs.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: only integers are passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: only integers are passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Ends this process at once, without running any handler: for children between clone and exec.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// rt_sigaction(2) to `SIG_DFL` for every signal, those that the C library keeps to itself included (its posix_spawn
/// leaves two of them ignored). Only shortly before exec.
pub fn default_signals() {
    const SIGNALS: c_int = 64;
    // struct kernel_sigaction: at most 32 bytes; all zero is SIG_DFL without flags.
    let default = [0_u64; 4];
    let old = std::ptr::null::<u64>();
    for signal in 1..=SIGNALS {
        // SAFETY: the kernel reads `default`; no handler of ours runs. SIGKILL and SIGSTOP are refused, as they should.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, 8) };
    }
}

/// The limit of setrlimit(2) with this name in lower case, without `RLIMIT_`.
#[must_use]
pub fn resource(name: &str) -> Option<nix::sys::resource::Resource> {
    use nix::sys::resource::Resource;
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}
