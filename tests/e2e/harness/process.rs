//! A child process with its output kept, killed by pid when its guard drops.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::{eventually, eventually_within};

/// Lines of output shown when a test fails.
const OUTPUT_LINES_SHOWN_MAX: usize = 150;

pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with stdout and stderr going to `<name>.log` in `dir`, appended to what an
    /// earlier process of that name wrote there.
    pub fn start(name: &str, command: &mut Command, dir: &Path) -> Self {
        let output = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&output).expect("a log file");
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file);
        // SAFETY: prctl is async-signal-safe and the closure touches no memory of the parent.
        unsafe {
            command.pre_exec(|| {
                // A test process that is killed takes its children with it.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), child, output, exited: None }
    }

    /// Sends a signal, such as `libc::SIGTERM`.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: kill has no memory effects; the child is not reaped yet, so the pid is its own.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "signal {signal} to {}", self.name);
    }

    /// `SIGSTOP`; returns when every thread stands still, which the signal alone does not wait for.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
        eventually(&format!("{} to stand still", self.name), || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
            let mut states = threads.map(|thread| {
                let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
                // The state follows the name, which is in parentheses and may hold anything.
                Some(stat[stat.rfind(')')? + 1..].trim_start().starts_with('T'))
            });
            states.all(|is_stopped| is_stopped == Some(true)).then_some(())
        });
    }

    /// Everything written to stdout and stderr so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// How the process ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("a child of ours");
        }
        self.exited
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually_within(limit, &what, || self.exited())
    }

    /// `kill -9`, and waits.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            self.child.kill().expect("a child of ours");
            self.exited = Some(self.child.wait().expect("a child of ours"));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let skipped = lines.len().saturating_sub(OUTPUT_LINES_SHOWN_MAX);
            eprintln!("---- output of {} ({skipped} earlier lines left out)", self.name);
            for line in &lines[skipped..] {
                eprintln!("{line}");
            }
            eprintln!("---- end of {}: {:?}", self.name, self.exited);
        }
    }
}
