//! Where opt-outs wait while the store takes none: a file of fixed size that was written in full
//! beforehand, so that neither a full disk nor a quota keeps an opt-out from being written to it.
//!
//! # The file
//!
//! Slots of 64 octets; integers are big-endian. The first slot says whose file it is:
//! `optout spool 1\n`, a zero octet, and 16 random octets, the spool's name, which is new whenever
//! an empty spool is opened. An entry takes as many slots as it needs:
//!
//! | octets | what |
//! |---|---|
//! | 8 | its number, from 1, never used twice under one name |
//! | 8 | when it was received, in milliseconds since 1970 |
//! | 2 | how long its content is |
//! | 14 | the first octets of SHA-256 (the spool's name, the fields above, the content) |
//! | … | the content, then zeros up to the end of the slot |
//!
//! Everything else is zeros: what was replayed is overwritten. What does not have its checksum was
//! never acknowledged, or is damaged; it is passed over and counted.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::time::Time;

const SLOT: usize = 64;
const MAGIC: &[u8; 16] = b"optout spool 1\n\0";
const HEAD: usize = 32;

/// As long as an entry's head can say that it is.
const LONGEST_ENTRY: u64 = HEAD as u64 + u16::MAX as u64;

/// How far a spool was replayed; kept by the store with what the replay recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolMark {
    /// The spool's name.
    pub name: [u8; 16],
    /// The last entry that was replayed.
    pub entry: u64,
}

/// What waits in a spool.
#[derive(Clone, PartialEq, Eq)]
pub struct Spooled {
    /// When it was received.
    pub received: Time,
    /// What was given to [`Spool::append`].
    pub content: Box<[u8]>,
    number: u64,
    /// The entry's first slot, and how many it has.
    slots: (u64, u64),
}

/// Contents are sealed links, which stay out of logs.
impl std::fmt::Debug for Spooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spooled({}, {})", self.number, self.received)
    }
}

/// A spool file and all that waits in it, oldest first. Its lock gives it one owner.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    name: [u8; 16],
    /// How many slots the file has, the first included, and the next that is free.
    slots: u64,
    free: u64,
    next_number: u64,
    waiting: VecDeque<Spooled>,
    unreadable: u64,
}

impl Spool {
    /// The longest content of an entry, in octets.
    pub const MAX_CONTENT: usize = 2048;

    /// Opens the spool at `path`, or makes it, `size` octets long, mode 0600. A file that is
    /// there and longer stays as it is; a shorter one grows.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when another process owns it; `InvalidData` when the file is something else;
    /// and whatever the operating system says.
    pub fn open(path: &Path, size: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(path)?;
        file.try_lock()?;
        let mut spool = Self::of(file, path);
        spool.allocate(size)?;
        // So that a file that is new is still there after a loss of power.
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(directory)?.sync_all()?;
        }
        spool.scan()?;
        if spool.waiting.is_empty() {
            spool.begin_anew()?;
        }
        Ok(spool)
    }

    /// What waits in the spool at `path`, which another process may own and change meanwhile.
    ///
    /// # Errors
    ///
    /// `InvalidData` when the file is something else; and whatever the operating system says.
    pub fn peek(path: &Path) -> io::Result<Vec<Spooled>> {
        let mut spool = Self::of(File::open(path)?, path);
        spool.slots = spool.file.metadata()?.len() / SLOT as u64;
        spool.scan()?;
        Ok(spool.waiting.into())
    }

    fn of(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.to_owned(),
            name: [0; 16],
            slots: 0,
            free: 1,
            next_number: 1,
            waiting: VecDeque::new(),
            unreadable: 0,
        }
    }

    /// Writes zeros up to the full size: a sparse file would need space when it is too late.
    fn allocate(&mut self, size: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        let mut length = self.file.seek(SeekFrom::End(0))?;
        let size = size.max(2 * SLOT as u64).next_multiple_of(SLOT as u64);
        while length < size {
            let part = (size - length).min(ZEROS.len() as u64);
            self.file.write_all(&ZEROS[..usize::try_from(part).unwrap_or(ZEROS.len())])?;
            length += part;
        }
        self.slots = length / SLOT as u64;
        self.file.sync_all()
    }

    /// Reads what waits.
    fn scan(&mut self) -> io::Result<()> {
        let mut window = Window::at(&self.file, 0)?;
        let (first, _) =
            window.bytes.split_first_chunk::<HEAD>().ok_or(ErrorKind::UnexpectedEof)?;
        if first.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        let Some(name) = first.strip_prefix(MAGIC) else {
            return Err(io::Error::new(ErrorKind::InvalidData, "this is no spool of optout"));
        };
        self.name.copy_from_slice(name);
        let mut slot = 1;
        while slot < self.slots {
            let bytes = window.from(&self.file, byte_of(slot))?;
            slot += match self.entry_at(bytes, slot) {
                Some(entry) => {
                    let taken = entry.slots.1;
                    self.waiting.push_back(entry);
                    taken
                }
                None => {
                    let is_used = bytes.iter().take(SLOT).any(|&byte| byte != 0);
                    self.unreadable += u64::from(is_used);
                    1
                }
            };
        }
        // Not in the order of their slots, when the end of the file was reached before.
        self.waiting.make_contiguous().sort_by_key(|entry| entry.number);
        if let Some(last) = self.waiting.back() {
            (self.next_number, self.free) = (last.number + 1, last.slots.0 + last.slots.1);
        }
        Ok(())
    }

    /// The entry that begins with `bytes`, at `slot`.
    fn entry_at(&self, bytes: &[u8], slot: u64) -> Option<Spooled> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
        let number = u64::from_be_bytes(*head[..8].first_chunk()?);
        let received = Time::from_millis(i64::from_be_bytes(*head[8..16].first_chunk()?))?;
        let length = usize::from(u16::from_be_bytes(*head[16..18].first_chunk()?));
        let content = rest.get(..length)?;
        let is_whole = number > 0 && encode_head(&self.name, number, received, content) == *head;
        let slots = (slot, slots_for(length));
        is_whole.then(|| Spooled { received, content: content.into(), number, slots })
    }

    /// A new name, so that numbers may begin again.
    fn begin_anew(&mut self) -> io::Result<()> {
        getrandom::fill(&mut self.name).map_err(io::Error::other)?;
        let mut first = [0; SLOT];
        first[..16].copy_from_slice(MAGIC);
        first[16..HEAD].copy_from_slice(&self.name);
        self.file.write_all_at(&first, 0)?;
        (self.free, self.next_number) = (1, 1);
        self.file.sync_data()
    }

    /// Writes as many of these as there is room for, in their order, each with when it was
    /// received; says how many. They are durable on return. Room for one more is kept back, for
    /// [`Spool::move_first_to_end`].
    ///
    /// # Errors
    ///
    /// When the file was moved or removed, or the operating system says so: then none of them may
    /// be acknowledged.
    pub fn append(&mut self, entries: &[(Time, &[u8])]) -> io::Result<usize> {
        self.append_leaving(2 * slots_for(Self::MAX_CONTENT), entries)
    }

    fn append_leaving(&mut self, left: u64, entries: &[(Time, &[u8])]) -> io::Result<usize> {
        self.check_place()?;
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        let (mut added, mut free) = (Vec::new(), self.free);
        for (&(received, content), number) in entries.iter().zip(self.next_number..) {
            let taken = slots_for(content.len());
            let Some(slot) = self.place_for(free, taken) else { break };
            if content.len() > Self::MAX_CONTENT || self.room_after(slot + taken) < left {
                break;
            }
            let mut bytes = encode_head(&self.name, number, received, content).to_vec();
            bytes.extend(content);
            bytes.resize(byte_of(taken) as usize, 0);
            match runs.last_mut() {
                Some((_, run)) if slot == free => run.extend(bytes),
                _ => runs.push((slot, bytes)),
            }
            free = slot + taken;
            added.push(Spooled { received, content: content.into(), number, slots: (slot, taken) });
        }
        if added.is_empty() {
            return Ok(0);
        }
        for (slot, run) in runs {
            self.file.write_all_at(&run, byte_of(slot))?;
        }
        self.file.sync_data()?;
        let count = added.len();
        (self.free, self.next_number) = (free, self.next_number + count as u64);
        self.waiting.extend(added);
        Ok(count)
    }

    /// Where an entry of so many slots goes when the next free one is `free`: after the others, or
    /// from the start again, before the oldest.
    fn place_for(&self, free: u64, taken: u64) -> Option<u64> {
        let oldest = self.waiting.front().map_or(self.slots, |entry| entry.slots.0);
        let fits = |from: u64, to: u64| (from + taken <= to).then_some(from);
        match free > oldest || self.waiting.is_empty() {
            true => fits(free, self.slots).or_else(|| {
                let before = if self.waiting.is_empty() { 1 } else { oldest };
                fits(1, before)
            }),
            false => fits(free, oldest),
        }
    }

    /// Slots that are free when `free` is the next one.
    fn room_after(&self, free: u64) -> u64 {
        match self.waiting.front().map(|entry| entry.slots.0) {
            Some(oldest) if free <= oldest => oldest - free,
            Some(oldest) => self.slots - free + oldest - 1,
            None => self.slots - free,
        }
    }

    /// Gives the oldest entry a new number and place after all others; the old one is still
    /// there, to be released.
    ///
    /// # Errors
    ///
    /// As [`Spool::append`].
    pub fn move_first_to_end(&mut self) -> io::Result<bool> {
        let Some(first) = self.waiting.front().cloned() else { return Ok(false) };
        Ok(self.append_leaving(0, &[(first.received, &first.content)])? == 1)
    }

    /// Takes back what [`Spool::move_first_to_end`] did.
    ///
    /// # Errors
    ///
    /// When the operating system does not overwrite the copy.
    pub fn take_back(&mut self) -> io::Result<()> {
        let Some(copy) = self.waiting.pop_back() else { return Ok(()) };
        self.free = copy.slots.0;
        self.overwrite(&[copy])
    }

    /// Sees whether the file is still the one of its name: nobody would find what is written to
    /// another.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn check_place(&self) -> io::Result<()> {
        match fs::metadata(&self.path)?.ino() == self.file.metadata()?.ino() {
            true => Ok(()),
            false => Err(io::Error::other("it was moved or replaced while it was in use")),
        }
    }

    /// What waits, oldest first.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &Spooled> {
        self.waiting.iter()
    }

    /// How far the spool is replayed when the first `count` entries are.
    pub fn mark(&self, count: usize) -> Option<SpoolMark> {
        let last = self.waiting.get(count.checked_sub(1)?)?;
        Some(SpoolMark { name: self.name, entry: last.number })
    }

    /// How many entries were replayed up to `mark`, by a process that could not overwrite them.
    pub fn replayed(&self, mark: SpoolMark) -> usize {
        let is_done = |entry: &&Spooled| mark.name == self.name && entry.number <= mark.entry;
        self.waiting.iter().take_while(is_done).count()
    }

    /// Drops the first `count` entries and overwrites them with zeros. They are dropped also when
    /// that fails: the store's mark says that they were replayed.
    ///
    /// # Errors
    ///
    /// When the operating system does not overwrite them.
    pub fn release(&mut self, count: usize) -> io::Result<()> {
        let dropped: Vec<Spooled> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        self.overwrite(&dropped)?;
        if self.waiting.is_empty() {
            self.free = 1;
        }
        Ok(())
    }

    fn overwrite(&mut self, entries: &[Spooled]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        // Side by side, but where the end of the file was reached.
        for run in entries.chunk_by(|one, next| one.slots.0 + one.slots.1 == next.slots.0) {
            let length = run.iter().map(|entry| entry.slots.1).sum();
            let zeros = vec![0; byte_of(length) as usize];
            self.file.write_all_at(&zeros, byte_of(run[0].slots.0))?;
        }
        self.file.sync_data()
    }

    /// What a spool file holds, without the zeros at its end; empty when nothing waits, or when
    /// there is no file. It may belong to another process.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn image(path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(if end > SLOT { end } else { 0 });
        Ok(bytes)
    }

    /// Slots that held neither zeros nor an entry when the file was opened: what was being written
    /// when a process ended, or damage.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Octets that [`Spool::append`] can still take.
    pub fn room(&self) -> u64 {
        let left = 2 * slots_for(Self::MAX_CONTENT);
        byte_of(self.room_after(self.free).saturating_sub(left))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A part of the file in memory, which may be much larger than that.
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    const SIZE: usize = 256 * 1024;

    fn at(file: &File, start: u64) -> io::Result<Self> {
        let (mut bytes, mut length) = (vec![0; Self::SIZE], 0);
        while length < bytes.len() {
            match file.read_at(&mut bytes[length..], start + length as u64)? {
                0 => break,
                read => length += read,
            }
        }
        bytes.truncate(length);
        Ok(Self { start, bytes })
    }

    /// The octets from `place` on, which increases: an entry's at least, where there are as many.
    fn from(&mut self, file: &File, place: u64) -> io::Result<&[u8]> {
        let is_full = self.bytes.len() == Self::SIZE;
        if is_full && place + LONGEST_ENTRY > self.start + Self::SIZE as u64 {
            *self = Self::at(file, place)?;
        }
        Ok(&self.bytes[self.bytes.len().min((place - self.start) as usize)..])
    }
}

fn byte_of(slot: u64) -> u64 {
    slot * SLOT as u64
}

fn slots_for(length: usize) -> u64 {
    (HEAD + length).div_ceil(SLOT) as u64
}

fn encode_head(name: &[u8; 16], number: u64, received: Time, content: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&number.to_be_bytes());
    head[8..16].copy_from_slice(&received.as_millis().to_be_bytes());
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    head[16..18].copy_from_slice(&length.to_be_bytes());
    let hash = Sha256::new_with_prefix(name).chain_update(&head[..18]).chain_update(content);
    head[18..].copy_from_slice(&hash.finalize()[..14]);
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for 15 short entries beside what is kept back.
    const SIZE: u64 = 64 * (1 + 15 + 66);

    fn at(millis: i64) -> Time {
        Time::from_millis(1_800_000_000_000 + millis).expect("in range")
    }

    fn contents(spool: &Spool) -> Vec<String> {
        spool.waiting().map(|e| String::from_utf8_lossy(&e.content).into_owned()).collect()
    }

    fn add(spool: &mut Spool, content: &str) -> usize {
        spool.append(&[(at(0), content.as_bytes())]).expect("written")
    }

    fn open(path: &Path) -> Spool {
        Spool::open(path, SIZE).expect("a spool")
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("spool");
        (dir, path)
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart_in_order() {
        let (_dir, path) = place();
        let mut spool = open(&path);
        let long = "x".repeat(200);
        let entries = [(at(1), b"one".as_slice()), (at(2), long.as_bytes()), (at(3), b"")];
        assert_eq!(spool.append(&entries).expect("written"), 3);
        assert_eq!(Spool::open(&path, 0).map_err(|e| e.kind()).err(), Some(ErrorKind::WouldBlock));
        drop(spool);
        let mut spool = open(&path);
        assert_eq!(contents(&spool), ["one", long.as_str(), ""]);
        let received: Vec<_> = spool.waiting().map(|entry| entry.received).collect();
        assert_eq!(received, [at(1), at(2), at(3)]);
        assert_eq!(add(&mut spool, "four"), 1);
        drop(spool);
        assert_eq!(contents(&open(&path)).last().map(String::as_str), Some("four"));
    }

    #[test]
    fn it_takes_what_fits_and_never_grows() {
        let (_dir, path) = place();
        let mut spool = open(&path);
        let many = vec![(at(0), b"sixteen octets..".as_slice()); 100];
        assert_eq!(spool.append(&many).expect("written"), 15, "the first slot is taken");
        assert_eq!((spool.room(), add(&mut spool, "")), (0, 0));
        assert_eq!(fs::metadata(&path).expect("there").len(), SIZE);
        spool.release(15).expect("overwritten");
        assert_eq!(spool.append(&many[..3]).expect("written"), 3, "from the start again");
        let too_long = vec![0; Spool::MAX_CONTENT + 1];
        assert_eq!(spool.append(&[(at(0), &too_long)]).expect("nothing"), 0);
    }

    #[test]
    fn what_is_released_is_zeros_and_does_not_come_back() {
        let (_dir, path) = place();
        let mut spool = open(&path);
        for name in ["alice", "bob", "carol"] {
            add(&mut spool, name);
        }
        spool.release(2).expect("overwritten");
        let bytes = fs::read(&path).expect("read");
        assert!(!bytes.windows(3).any(|part| part == b"bob" || part == b"ali"));
        drop(spool);
        assert_eq!(contents(&open(&path)), ["carol"]);
    }

    /// A process that ended after the store's commit and before the zeros.
    #[test]
    fn a_mark_tells_what_was_replayed_and_an_empty_spool_has_a_new_name() {
        let (_dir, path) = place();
        let mut spool = open(&path);
        for name in ["a", "b", "c"] {
            add(&mut spool, name);
        }
        let mark = spool.mark(2).expect("two wait");
        drop(spool);
        let mut spool = open(&path);
        assert_eq!(spool.replayed(mark), 2);
        spool.release(3).expect("overwritten");
        drop(spool);
        let mut spool = open(&path);
        add(&mut spool, "d");
        assert_eq!(spool.replayed(mark), 0, "a number of another name says nothing");
        assert_eq!(spool.mark(0), None);
    }

    #[test]
    fn damage_costs_no_more_than_the_entry_it_is_in() {
        let (_dir, path) = place();
        let mut spool = open(&path);
        for name in ["a", "b", "c"] {
            add(&mut spool, name);
        }
        drop(spool);
        let whole = fs::read(&path).expect("read");
        for at in SLOT..4 * SLOT {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).expect("written");
            let spool = open(&path);
            // The zeros at the end of a slot are not part of an entry.
            let is_padding = at % SLOT > HEAD;
            assert_eq!(spool.waiting().len(), if is_padding { 3 } else { 2 }, "octet {at}");
            assert_eq!(spool.unreadable(), u64::from(!is_padding));
        }
        fs::write(&path, vec![7; 1024]).expect("written");
        assert_eq!(Spool::open(&path, 0).map_err(|e| e.kind()).err(), Some(ErrorKind::InvalidData));
    }

    /// Entries that cannot be recorded go round and round, and never use the room up.
    #[test]
    fn what_is_moved_to_the_end_comes_from_the_start_again() {
        let (_dir, path) = place();
        let mut spool = open(&path);
        let many = vec![(at(0), b"".as_slice()); 13];
        spool.append(&many).expect("written");
        for content in ["x", "y"] {
            add(&mut spool, content);
        }
        for round in 0..1000 {
            assert!(spool.move_first_to_end().expect("written"), "round {round}");
            spool.release(1).expect("overwritten");
        }
        assert_eq!((spool.waiting().len(), spool.room()), (15, 0));
        let before = contents(&spool);
        drop(spool);
        let mut spool = open(&path);
        assert_eq!(contents(&spool), before, "in their order");
        spool.move_first_to_end().expect("written");
        spool.take_back().expect("overwritten");
        assert_eq!(contents(&spool), before);
        drop(spool);
        assert_eq!(contents(&open(&path)), before);
    }

    /// Overwriting failed once, and lower slots were used again: the mark still tells them apart.
    #[test]
    fn what_was_not_overwritten_does_not_come_back() {
        let (_dir, path) = place();
        let mut spool = open(&path);
        for content in ["a", "b", "c"] {
            add(&mut spool, content);
        }
        let stale = fs::read(&path).expect("read");
        let mark = spool.mark(3).expect("three wait");
        spool.release(3).expect("overwritten");
        spool.free = 1;
        add(&mut spool, "d");
        drop(spool);
        let mut bytes = fs::read(&path).expect("read");
        bytes[2 * SLOT..4 * SLOT].copy_from_slice(&stale[2 * SLOT..4 * SLOT]);
        fs::write(&path, bytes).expect("written");
        let mut spool = open(&path);
        assert_eq!(contents(&spool), ["b", "c", "d"]);
        let replayed = spool.replayed(mark);
        spool.release(replayed).expect("overwritten");
        assert_eq!(contents(&spool), ["d"]);
    }
}
