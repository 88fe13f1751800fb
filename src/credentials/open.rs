//! Opens the store's file, and reads or makes the management token beside it.

use super::random;
use super::refused::Refused;
use super::store::{SCHEMA, Store};
use crate::config::Secret;
use redb::{Builder, DatabaseError, StorageError};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The file in the directory of credentials.
pub const FILE_NAME: &str = "credentials.redb";
/// The file with the bearer token of the management interface, if no other is named.
pub const MANAGEMENT_TOKEN_FILE_NAME: &str = "management-token";
/// Bytes of the file that are kept in memory at most.
const CACHE_BYTES: usize = 64 * 1_024 * 1_024;
/// Modes: what is in there is for this user alone.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The bits of a mode that let others in.
const OTHERS: u32 = 0o077;
/// Bytes of a management token: fewer are guessed too easily, more are a wrong file.
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 1_024;

/// Why the store cannot be used. Each says which file and what to do.
#[derive(Debug)]
pub enum OpenError {
    /// The directory cannot be made or the file not opened.
    Access {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process has it.
    Locked(PathBuf),
    /// A newer program has written it.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: u64,
    },
    /// What is in the file cannot be used.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Access { path, error } => {
                write!(f, "cannot open {}: {error}; ", path.display())?;
                match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        f.write_str("give the user that ringgate runs as the right to write there")
                    }
                    io::ErrorKind::ReadOnlyFilesystem => {
                        f.write_str("name a directory that can be written")
                    }
                    _ => f.write_str("check the directory of credentials"),
                }
            }
            Self::Locked(path) => write!(
                f,
                "{} is in use by another ringgate: stop that one, or give each a directory of its \
                 own",
                path.display()
            ),
            Self::Newer { path, schema } => write!(
                f,
                "{} has been written by a newer ringgate (schema {schema}, this one knows \
                 {SCHEMA}): run that version, or restore a copy from before",
                path.display()
            ),
            Self::Unreadable { path, what } => write!(
                f,
                "{} cannot be used: {what}; restore a copy, or move the file away",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens or makes the store in a directory, which is made if need be.
pub(super) fn store(directory: &Path) -> Result<Store, OpenError> {
    let path = directory.join(FILE_NAME);
    make_directory(directory)
        .map_err(|error| OpenError::Access { path: directory.to_owned(), error })?;
    let file = open_file(&path).map_err(|error| OpenError::Access { path: path.clone(), error })?;
    let shown = path.display().to_string();
    // A file just made counts as not closed too.
    let has_content = file.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let warning = Once::new();
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_repair_callback(move |_| {
            if has_content {
                warning.call_once(|| {
                    tracing::warn!("{shown} was not closed in order: checking all of it");
                });
            }
        })
        .create_file(file);
    let unreadable = |what: String| OpenError::Unreadable { path: path.clone(), what };
    let database = match database {
        Ok(database) => database,
        Err(DatabaseError::DatabaseAlreadyOpen) => return Err(OpenError::Locked(path)),
        // A file of something else is said to be "invalid data".
        Err(DatabaseError::Storage(StorageError::Io(error)))
            if error.kind() != io::ErrorKind::InvalidData =>
        {
            return Err(OpenError::Access { path, error });
        }
        Err(error) => return Err(unreadable(error.to_string())),
    };
    match Store::new(database) {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(schema)) => Err(OpenError::Newer { path, schema }),
        Err(refused) => Err(unreadable(refused.to_string())),
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)
}

fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)?;
    if file.metadata()?.permissions().mode() & OTHERS != 0 {
        tracing::warn!("{} could be read by others: closing that", path.display());
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    sync_directory_of(path)?;
    Ok(file)
}

/// A file's name is on the disk once its directory is.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Why there is no management token. Says which file and what to do.
#[derive(Debug)]
pub struct TokenError {
    path: PathBuf,
    what: String,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no management token from {}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for TokenError {}

/// The bearer token of the management interface: what the file says, without white space around
/// it. A file that is not there is made, with a fresh token, for this user alone.
///
/// # Errors
/// When the file can be neither read nor made, or what it has is no token.
pub fn management_token(path: &Path) -> Result<Secret, TokenError> {
    let fail = |what: String| TokenError { path: path.to_owned(), what };
    match File::open(path) {
        Ok(file) => read_token(file).map_err(fail),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = random::secret().map_err(|refused: Refused| fail(refused.to_string()))?;
            match write_token(path, &token) {
                Ok(()) => Ok(token),
                // Another process was quicker.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(path)
                    .map_err(|error| error.to_string())
                    .and_then(read_token)
                    .map_err(fail),
                Err(error) => Err(fail(format!("it cannot be made: {error}"))),
            }
        }
        Err(error) => Err(fail(format!("it cannot be read: {error}"))),
    }
}

fn read_token(file: File) -> Result<Secret, String> {
    let mut text = String::new();
    let is_exposed =
        file.metadata().is_ok_and(|metadata| metadata.permissions().mode() & OTHERS != 0);
    if is_exposed {
        tracing::warn!("the file of the management token can be read by others: chmod 600");
    }
    file.take(TOKEN_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let token = text.trim();
    // What a header can carry (RFC 9110 §5.5), and no white space.
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it must have one word of visible ASCII characters".into());
    }
    if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
        return Err(format!("it must have {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} characters"));
    }
    Ok(Secret::new(token))
}

/// The file appears with the whole token in it, or not at all.
fn write_token(path: &Path, token: &Secret) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(directory)?;
    }
    let unfinished = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&unfinished)?;
    let written = file
        .write_all(format!("{}\n", token.expose()).as_bytes())
        .and_then(|()| file.sync_all())
        // Unlike a rename, a link does not replace what is there.
        .and_then(|()| std::fs::hard_link(&unfinished, path));
    std::fs::remove_file(&unfinished)?;
    written?;
    sync_directory_of(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::tests::TempDir;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("is there").permissions().mode() & 0o777
    }

    #[test]
    fn directory_and_file_are_for_this_user_alone() {
        let dir = TempDir::new();
        let directory = dir.path().join("a/b");
        drop(store(&directory).expect("opens"));
        assert_eq!(mode(&directory), DIRECTORY_MODE);
        assert_eq!(mode(&directory.join(FILE_NAME)), FILE_MODE);

        let file = directory.join(FILE_NAME);
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("changes");
        drop(store(&directory).expect("opens"));
        assert_eq!(mode(&file), FILE_MODE, "closed again");
    }

    #[test]
    fn a_store_in_use_is_refused_with_what_to_do() {
        let dir = TempDir::new();
        let first = store(dir.path()).expect("opens");
        let error = store(dir.path()).expect_err("is in use").to_string();
        assert!(error.contains(FILE_NAME) && error.contains("another ringgate"), "{error}");
        drop(first);
        store(dir.path()).expect("opens again");
    }

    #[test]
    fn a_store_of_a_newer_program_is_refused_and_left_as_it_is() {
        let dir = TempDir::new();
        drop(store(dir.path()).expect("opens"));
        let set = |schema: u64| {
            let path = dir.path().join(FILE_NAME);
            let database = redb::Database::open(path).expect("opens");
            let transaction = database.begin_write().expect("begins");
            let meta: redb::TableDefinition<&str, u64> = redb::TableDefinition::new("meta");
            transaction.open_table(meta).expect("opens").insert("schema", schema).expect("writes");
            transaction.commit().expect("commits");
        };
        set(SCHEMA + 1);
        for _ in 0..2 {
            let error = store(dir.path()).expect_err("is newer").to_string();
            assert!(error.contains("schema 2, this one knows 1"), "{error}");
        }
        set(SCHEMA);
        store(dir.path()).expect("opens");
    }

    #[test]
    fn a_file_of_something_else_is_refused_and_kept() {
        let dir = TempDir::new();
        let path = dir.path().join(FILE_NAME);
        let text = "no database\n".repeat(1_000);
        std::fs::write(&path, &text).expect("writes");
        let error = store(dir.path()).expect_err("is something else");
        assert!(matches!(error, OpenError::Unreadable { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("reads"), text);
    }

    #[test]
    fn a_directory_that_is_a_file_is_refused_with_its_name() {
        let dir = TempDir::new();
        let path = dir.path().join("file");
        std::fs::write(&path, "").expect("writes");
        let error = store(&path).expect_err("is no directory").to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn a_management_token_is_made_once_and_read_from_then_on() {
        let dir = TempDir::new();
        let path = dir.path().join("run/management-token");
        let token = management_token(&path).expect("makes one");
        assert_eq!(token.expose().len(), random::SECRET_LEN);
        assert_eq!(management_token(&path).expect("reads it"), token);
        assert_eq!(mode(&path), FILE_MODE);
        let beside = std::fs::read_dir(dir.path().join("run")).expect("reads").count();
        assert_eq!(beside, 1, "nothing unfinished is left");
    }

    #[test]
    fn a_management_token_that_is_none_is_refused_without_being_shown() {
        let dir = TempDir::new();
        let path = dir.path().join("token");
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for text in ["", "short", "0123456789 0123456789", "0123456789ä0123456789", &long] {
            std::fs::write(&path, text).expect("writes");
            let error = management_token(&path).expect_err("is no token").to_string();
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        std::fs::write(&path, " 0123456789abcdef\n").expect("writes");
        assert_eq!(management_token(&path).expect("is one").expose(), "0123456789abcdef");
    }
}
