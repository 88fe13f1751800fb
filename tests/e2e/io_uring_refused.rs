//! Where io_uring is forbidden the start fails, quickly and with words on what to change.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::PATIENCE;
use crate::harness::gateway::Gateway;

/// `io_uring_setup`, the same number on every architecture.
const IO_URING_SETUP: u32 = 425;

/// Makes `io_uring_setup` fail with `errno` in the process to be started, as a container's seccomp
/// filter does.
fn forbid_io_uring(command: &mut Command, errno: i32) {
    // SAFETY: the closure runs after fork and makes system calls only; the program lives on its
    // stack while the kernel copies it.
    unsafe {
        command.pre_exec(move || {
            let statement =
                |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
            let load_syscall_number = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
            let skip_unless_setup = libc::sock_filter {
                code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                jt: 0,
                jf: 1,
                k: IO_URING_SETUP,
            };
            let fail = statement(
                libc::BPF_RET | libc::BPF_K,
                libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA),
            );
            let allow = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW);
            let mut filter = [load_syscall_number, skip_unless_setup, fail, allow];
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) != 0
            {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

#[test]
fn a_forbidden_io_uring_is_explained() {
    for (errno, expected) in [(libc::EPERM, "seccomp"), (libc::ENOSYS, "kernel")] {
        let mut gateway = Gateway::spawn_prepared(
            "nats://127.0.0.1:4222",
            |_| {},
            |command| forbid_io_uring(command, errno),
        );
        let status = gateway.wait(PATIENCE);
        assert_eq!(status.code(), Some(1), "{}", gateway.output());
        let output = gateway.output();
        assert!(output.contains("io_uring"), "{output}");
        assert!(output.contains(expected), "{output}");
        assert!(!output.contains("panicked"), "{output}");
    }
}
