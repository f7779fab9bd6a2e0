//! A file of fixed size that one process holds locked and mapped, and that outlives it: what was stored is there for
//! whoever gets the lock after the holder was killed, without a system call per store.
//!
//! The lock and the mapping end together, with the value or with the process. A file appears under its name only when it
//! is locked and filled with zeroes, so nobody can find a young one and take it for abandoned.
//!
//! **Records that are either old or new.** The map is a row of 64-bit words. One [`LockedMap::store`] cannot be seen half
//! done, and stores and writes stay in the order in which they were made. So: write the body of a free record with
//! [`LockedMap::write`], then publish it by storing a word that says so; to free it, store the word first and touch the body
//! after. What must change inside a live record has to fit into one word.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::posix_fallocate;
use nix::libc;

/// Ending of the name a file has for an instant while it is made. One that is found was left by a process that was killed
/// just then; it holds nothing.
pub const UNFINISHED: &str = ".unfinished";

/// Bytes before the caller's: a mark, and the process number of the holder.
const HEADER: usize = 16;
const MARK: u64 = u64::from_be_bytes(*b"qfmap\0\0\x01");
const WORD: usize = size_of::<u64>();

/// A mapped file whose lock is ours. Offsets and lengths count bytes from the first one that the caller may use.
#[derive(Debug)]
pub struct LockedMap {
    map: MmapRaw,
    /// Keeps the lock.
    _file: File,
    path: PathBuf,
}

/// What became of an attempt to open an existing file.
#[derive(Debug)]
pub enum Opened {
    /// The lock was free and is ours now.
    Ours(LockedMap),
    /// Somebody else has the lock.
    HeldElsewhere {
        /// Process number of the holder, where it could be read.
        pid: Option<i32>,
    },
    /// There is no such file (any more).
    Gone,
}

impl LockedMap {
    /// Makes a new file of `size` bytes, all zero, that only this user can read. The space is reserved at once, so that
    /// later stores cannot fail.
    ///
    /// # Errors
    /// The file exists; the directory cannot be written; no space.
    pub fn create(path: &Path, size: usize) -> io::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(format!(".{}{UNFINISHED}", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
        let made = Self::create_unfinished(&unfinished, path, size);
        // Unlike a rename, a link fails when the name is taken.
        let linked = made.and_then(|map| fs::hard_link(&unfinished, path).map(|()| map));
        let _ = fs::remove_file(&unfinished);
        linked
    }

    fn create_unfinished(unfinished: &Path, path: &Path, size: usize) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(unfinished)?;
        file.try_lock()?;
        let length = size.next_multiple_of(WORD).saturating_add(HEADER);
        posix_fallocate(&file, 0, libc::off_t::try_from(length).map_err(io::Error::other)?)?;
        Self::map(file, path)
    }

    /// Opens an existing file if nobody holds it; does not wait.
    ///
    /// # Errors
    /// Not permitted, or not such a file.
    pub fn open(path: &Path) -> io::Result<Opened> {
        let Some(file) = open_file(path)? else { return Ok(Opened::Gone) };
        match file.try_lock() {
            Ok(()) => Self::opened(file, path),
            Err(TryLockError::WouldBlock) => Ok(Opened::HeldElsewhere { pid: holder(&file) }),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens an existing file as soon as nobody holds it. Blocks the thread until then, so not for an async loop. `None`
    /// when the file is gone, also when its last holder removed it meanwhile.
    ///
    /// # Errors
    /// Not permitted, or not such a file.
    pub fn open_when_free(path: &Path) -> io::Result<Option<Self>> {
        let Some(file) = open_file(path)? else { return Ok(None) };
        loop {
            match file.lock() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        }
        match Self::opened(file, path)? {
            Opened::Ours(map) => Ok(Some(map)),
            Opened::HeldElsewhere { .. } | Opened::Gone => Ok(None),
        }
    }

    fn opened(file: File, path: &Path) -> io::Result<Opened> {
        // Whoever had the lock before may have removed the file between our opening and our locking it.
        if file.metadata()?.nlink() == 0 {
            return Ok(Opened::Gone);
        }
        let mut mark = [0; WORD];
        let read = file.read_exact_at(&mut mark, 0);
        if read.is_err() || u64::from_ne_bytes(mark) != MARK {
            let text = format!("`{}` was not written by this program, or by another version", path.display());
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        Self::map(file, path).map(Opened::Ours)
    }

    fn map(file: File, path: &Path) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if length < HEADER || !length.is_multiple_of(WORD) {
            let text = format!("`{}` has a length of {length} bytes, which cannot be", path.display());
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        let map = MmapOptions::new().len(length).map_raw(&file)?;
        let locked = Self { map, _file: file, path: path.to_owned() };
        locked.words()[1].store(u64::from(std::process::id()), Ordering::Release);
        locked.words()[0].store(MARK, Ordering::Release);
        Ok(locked)
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping starts at a page, is a whole number of words long (checked in `map`), readable and writable,
        // and lives as long as the returned borrow. It is only ever accessed as atomic words, through this function. Other
        // processes are kept out by the lock, the mode of the file and its directory; the file never shrinks, because
        // nothing here truncates it.
        unsafe { slice::from_raw_parts(self.map.as_mut_ptr().cast::<AtomicU64>(), self.map.len() / WORD) }
    }

    /// Bytes the caller may use.
    #[must_use]
    pub fn size(&self) -> usize {
        self.map.len() - HEADER
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The word at `offset`.
    ///
    /// # Panics
    /// `offset` is no multiple of 8, or outside.
    #[must_use]
    pub fn load(&self, offset: usize) -> u64 {
        self.words()[word_index(offset)].load(Ordering::Acquire)
    }

    /// Stores one word, after everything stored or written before and before everything after.
    ///
    /// # Panics
    /// `offset` is no multiple of 8, or outside.
    pub fn store(&self, offset: usize, word: u64) {
        self.words()[word_index(offset)].store(word, Ordering::Release);
        // Release alone would let later writes move before this store.
        fence(Ordering::SeqCst);
    }

    /// Copies `length` bytes out, from `offset` on.
    ///
    /// # Panics
    /// `offset` is no multiple of 8, or the range is outside.
    #[must_use]
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let first = word_index(offset);
        let words = &self.words()[first..first + length.div_ceil(WORD)];
        let mut bytes: Vec<u8> =
            words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    /// Copies bytes in, from `offset` on, and fills the last word up with zeroes. A kill in the middle leaves part of them:
    /// write only where no stored word says yet that there is something.
    ///
    /// # Panics
    /// `offset` is no multiple of 8, or the range is outside.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let first = word_index(offset);
        let words = &self.words()[first..first + bytes.len().div_ceil(WORD)];
        for (word, chunk) in words.iter().zip(bytes.chunks(WORD)) {
            let mut padded = [0; WORD];
            padded[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
    }

    /// Removes the file and lets go of the lock. Whoever waits for it finds it gone.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn unlink(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn word_index(offset: usize) -> usize {
    assert!(offset.is_multiple_of(WORD), "offset {offset} is no multiple of {WORD}");
    (offset + HEADER) / WORD
}

fn open_file(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn holder(file: &File) -> Option<i32> {
    let mut pid = [0; WORD];
    file.read_exact_at(&mut pid, WORD as u64).ok()?;
    i32::try_from(u64::from_ne_bytes(pid)).ok().filter(|pid| *pid > 0)
}
