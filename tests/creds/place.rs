//! Where the command is run, and how.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory with a configuration; gone with its owner.
pub struct Place {
    pub folder: PathBuf,
}

/// What a run of the command left.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Place {
    /// The configuration of a gateway whose management interface has this port.
    pub fn new(port: u16) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringgate-creds-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("makes a folder");
        let place = Self { folder };
        place.configure(port);
        place
    }

    pub fn configure(&self, port: u16) {
        let folder = self.folder.display();
        let credentials = format!("ringgate:\n  credentials: {{ directory: {folder} }}\n");
        self.write("config.yml", &format!("server: {{ port: {port} }}\n{credentials}"));
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("writes");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).expect("reads")
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with_input(arguments, "")
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringgate"))
            .arg("creds")
            .args(arguments)
            .arg("--config")
            .arg(self.folder.join("config.yml"))
            .current_dir(&self.folder)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        // A command that reads nothing may have ended already.
        let _ = child.stdin.take().expect("is piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("ends");
        let text = |bytes| String::from_utf8(bytes).expect("is text");
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What a command prints, which must succeed without a word to stderr.
    pub fn good(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!((run.code, &*run.err), (Some(0), ""), "{arguments:?}");
        run.out
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
