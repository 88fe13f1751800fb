//! Files for what is shown only once.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Failure;

/// Only the owner may read and write.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// New files in a folder, made before there is something to write, so that nothing is lost for
/// want of them. They vanish again unless they are to be kept.
pub(super) struct Files {
    folder: PathBuf,
    files: Vec<(&'static str, File)>,
    is_kept: bool,
}

impl Files {
    /// Makes empty files, and the folder if there is none. None of them may exist.
    pub(super) fn create(folder: &Path, names: &[&'static str]) -> Result<Self, Failure> {
        let shown = folder.display();
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(
            |error| Failure::told(format!("cannot make the directory {shown}: {error}")),
        )?;
        let mut made = Self { folder: folder.into(), files: Vec::new(), is_kept: false };
        for name in names {
            let path = folder.join(name);
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(FILE_MODE).open(&path);
            let file = file.map_err(|error| {
                Failure::told(format!(
                    "cannot make {}: {error}; nothing was issued, name another directory",
                    path.display()
                ))
            })?;
            made.files.push((name, file));
        }
        Ok(made)
    }

    /// Where they are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes one of the files; what has no file is passed over. `id` is what has been issued.
    pub(super) fn write(&self, name: &str, bytes: &[u8], id: &str) -> Result<(), Failure> {
        let Some((_, file)) = self.files.iter().find(|(of, _)| *of == name) else { return Ok(()) };
        let mut file = file;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| {
            let path = self.folder.join(name);
            Failure::told(format!(
                "cannot write {}: {error}; the certificate is of no use without its files: \
                 ringgate creds cert delete {id}",
                path.display()
            ))
        })
    }

    /// All is written.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if !self.is_kept {
            for (name, _) in &self.files {
                // A file that stays is an empty one, and its name is taken: the next attempt says.
                let _ = fs::remove_file(self.folder.join(name));
            }
        }
    }
}
