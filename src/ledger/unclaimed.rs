//! Clicks by keys that the service lacks: who clicked was answered 404, and the sealed token is
//! kept until the key is there. Until then nobody can tell a sender's key from an invented id, so
//! what is kept is bounded, and shared so that invented ids cannot take the room of a real one.
//!
//! # The shares
//!
//! A click goes into the first share. What gives way there, itself perhaps, goes into the
//! second, from there into the third, and what gives way there is gone.
//!
//! | share | room | what gives way |
//! |---|---|---|
//! | first | 4,096 | the id with the fewest clicks; of several, the one that waits longest for its next |
//! | second | 2,048 | the id with the most clicks; of several, the one that waits longest for its next |
//! | third | 2,048 | drawn by lot |
//!
//! In the first two, an id gives its oldest click, and does so too as soon as it has more than
//! 1,024 in the share. What follows:
//!
//! * **Bounds.** At most 8,192 clicks are kept, at most 4,096 of one id.
//! * **Nothing is lost** before 4,096 others are there.
//! * **Many ids with few clicks each**, however many they are, take nothing from an id that has more in
//!   the first share than each of them, up to 1,024. With one click each, they do so to an id that
//!   has two; its second has to come before 4,096 of theirs.
//! * **Few ids with many clicks each** leave to every id 2,048 / (the number of ids in the second
//!   share), however many the clicks are.
//! * **Whatever the pattern**, made by who knows these rules: of the clicks that fell into the third
//!   share each is there with the same probability, 2,048 / (their number), so that a flood takes
//!   no more of a sender's clicks than in proportion to its size; after 32,768 later ones count
//!   more. As long as nobody can tell them apart no rule could do better in the worst case.
//!
//! # The file
//!
//! A line for each click: when it was received, its source, the key's id and the token. Lines are
//! appended as clicks are kept and not synced one by one, since nobody was promised anything;
//! when there are twice as many as clicks may be kept, the file is written anew. Lines that
//! are no clicks, as the last after a crash may be, are passed over.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::sync::Arc;

use super::codes::Source;
use super::data_dir::{DataDir, io_error};
use super::error::StoreError;
use super::time::Time;
use crate::link::KeyId;

const FIRST_ROOM: usize = 4096;
const SECOND_ROOM: usize = 2048;
const THIRD_ROOM: usize = 2048;

/// Clicks of one id in the first share, and in the second.
const MOST_OF_ONE: usize = 1024;

/// From so many draws on, later ones count more: else old garbage would keep new clicks out.
const MOST_DRAWS: u64 = 16 * THIRD_ROOM as u64;

/// Lines that the file has at most, about.
const MOST_LINES: usize = 2 * UnclaimedClicks::ROOM;

/// The longest line, token included, about; a longer file is none of ours.
const MOST_OCTETS: u64 = 2 * MOST_LINES as u64 * 1280;

/// A click by a key that was not there.
#[derive(Clone, PartialEq, Eq)]
pub struct UnclaimedClick {
    /// When it was received.
    pub received: Time,
    /// By which way.
    pub source: Source,
    /// The id of the key.
    pub key: KeyId,
    /// The sealed link: visible ASCII.
    pub token: Arc<str>,
}

/// A token is a bearer's right, which stays out of logs.
impl fmt::Debug for UnclaimedClick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnclaimedClick({}, {})", self.key, self.received)
    }
}

/// As a line of the file.
impl fmt::Display for UnclaimedClick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.received, self.source, self.key, self.token)
    }
}

impl UnclaimedClick {
    fn of_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next();
        let (received, source, key) =
            (word()?.parse().ok()?, word()?.parse().ok()?, word()?.parse().ok()?);
        let token = word()?.into();
        words.next().is_none().then_some(Self { received, source, key, token })
    }
}

/// All clicks that are kept, in memory.
#[derive(Debug)]
pub struct UnclaimedClicks {
    first: Share,
    second: Share,
    third: Lot,
    /// So that a click that is repeated counts once.
    tokens: HashSet<Arc<str>>,
}

impl Default for UnclaimedClicks {
    fn default() -> Self {
        Self {
            first: Share::new(FIRST_ROOM, GivesWay::Fewest),
            second: Share::new(SECOND_ROOM, GivesWay::Most),
            third: Lot::default(),
            tokens: HashSet::new(),
        }
    }
}

impl UnclaimedClicks {
    /// Clicks that are kept at most.
    pub const ROOM: usize = FIRST_ROOM + SECOND_ROOM + THIRD_ROOM;

    /// Keeps a click, in place of another one when there is no room; whether it is a new one.
    pub fn add(&mut self, click: UnclaimedClick) -> bool {
        if !self.tokens.insert(Arc::clone(&click.token)) {
            return false;
        }
        let gone = self.first.put(click).and_then(|click| self.second.put(click));
        if let Some(gone) = gone.and_then(|click| self.third.put(click)) {
            self.tokens.remove(&gone.token);
        }
        true
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &UnclaimedClick> {
        self.first.iter().chain(self.second.iter()).chain(&self.third.clicks)
    }

    /// Drops those of which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(&UnclaimedClick) -> bool) {
        let kept: Vec<_> = self.in_order().into_iter().filter(|click| keep(click)).collect();
        *self = Self::default();
        self.extend(kept);
    }

    fn extend(&mut self, clicks: impl IntoIterator<Item = UnclaimedClick>) {
        for click in clicks {
            self.add(click);
        }
    }

    /// The ids with the most clicks, and how many each has.
    pub fn most(&self, limit: usize) -> Vec<(KeyId, usize)> {
        let mut counts = HashMap::<KeyId, usize>::new();
        self.iter().for_each(|click| *counts.entry(click.key).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable_by_key(|(key, count)| (usize::MAX - count, *key));
        counts.truncate(limit);
        counts
    }

    fn in_order(&self) -> Vec<UnclaimedClick> {
        let mut all: Vec<_> = self.iter().cloned().collect();
        all.sort_by_key(|click| click.received);
        all
    }
}

/// Which id gives way where there is no room.
#[derive(Debug, Clone, Copy)]
enum GivesWay {
    Fewest,
    Most,
}

/// A part of the room, shared by ids.
#[derive(Debug)]
struct Share {
    room: usize,
    gives_way: GivesWay,
    ids: HashMap<KeyId, Own>,
    /// The ids in the order in which they give way.
    order: BTreeSet<Rank>,
    len: usize,
    puts: u64,
}

/// What one id has in a share, oldest first, and the number of the last put that brought it some.
#[derive(Debug, Default)]
struct Own {
    clicks: VecDeque<UnclaimedClick>,
    last_put: u64,
}

/// The smallest gives way: how many clicks, the last put, and which id.
type Rank = (usize, u64, KeyId);

impl Share {
    fn new(room: usize, gives_way: GivesWay) -> Self {
        Self { room, gives_way, ids: HashMap::new(), order: BTreeSet::new(), len: 0, puts: 0 }
    }

    fn rank(&self, key: KeyId, own: &Own) -> Rank {
        let count = own.clicks.len();
        let rank = match self.gives_way {
            GivesWay::Fewest => count,
            GivesWay::Most => usize::MAX - count,
        };
        (rank, own.last_put, key)
    }

    /// Takes a click; gives the one that has to go for it.
    fn put(&mut self, click: UnclaimedClick) -> Option<UnclaimedClick> {
        let key = click.key;
        self.puts += 1;
        let last_put = self.puts;
        let count = self.change(key, |own| {
            own.clicks.push_back(click);
            own.last_put = last_put;
            own.clicks.len()
        });
        self.len += 1;
        let victim = match (count > MOST_OF_ONE, self.len > self.room) {
            (true, _) => key,
            (false, true) => self.order.first()?.2,
            (false, false) => return None,
        };
        self.len -= 1;
        self.change(victim, |own| own.clicks.pop_front())
    }

    /// Changes what one id has, and its place in the order.
    fn change<T>(&mut self, key: KeyId, change: impl FnOnce(&mut Own) -> T) -> T {
        let mut own = self.ids.remove(&key).unwrap_or_default();
        self.order.remove(&self.rank(key, &own));
        let result = change(&mut own);
        if !own.clicks.is_empty() {
            self.order.insert(self.rank(key, &own));
            self.ids.insert(key, own);
        }
        result
    }

    fn iter(&self) -> impl Iterator<Item = &UnclaimedClick> {
        self.ids.values().flat_map(|own| &own.clicks)
    }
}

/// A sample of all that was put into it, each as likely as the other (Vitter's algorithm R).
#[derive(Debug, Default)]
struct Lot {
    clicks: Vec<UnclaimedClick>,
    draws: u64,
    random: RandomState,
    /// Every put is one draw of its own, also where draws are counted no further.
    puts: u64,
}

impl Lot {
    /// Takes a click; gives the one that has to go, which may be the same.
    fn put(&mut self, click: UnclaimedClick) -> Option<UnclaimedClick> {
        (self.puts, self.draws) = (self.puts + 1, (self.draws + 1).min(MOST_DRAWS));
        if self.clicks.len() < THIRD_ROOM {
            self.clicks.push(click);
            return None;
        }
        let drawn = self.random.hash_one(self.puts) % self.draws;
        match usize::try_from(drawn).ok().and_then(|drawn| self.clicks.get_mut(drawn)) {
            Some(place) => Some(std::mem::replace(place, click)),
            None => Some(click),
        }
    }
}

/// The clicks that are kept, and the file in which they outlive the process.
#[derive(Debug)]
pub struct Unclaimed {
    dir: DataDir,
    clicks: UnclaimedClicks,
    /// Locked; `None` while another process has it, or it cannot be written.
    file: Option<File>,
    /// How many lines the file has, and what is to be appended.
    lines: usize,
    unwritten: String,
    /// Whether the file holds something else than it should, and has to be written anew.
    is_stale: bool,
}

impl Unclaimed {
    /// No clicks yet; [`Unclaimed::save`] reads those that the file holds.
    pub fn new(dir: DataDir) -> Self {
        let (clicks, unwritten) = (UnclaimedClicks::default(), String::new());
        Self { dir, clicks, file: None, lines: 0, unwritten, is_stale: false }
    }

    /// What the file holds, for one who only looks.
    ///
    /// # Errors
    ///
    /// When it is there and cannot be read.
    pub fn read(dir: &DataDir) -> Result<UnclaimedClicks, StoreError> {
        let mut clicks = UnclaimedClicks::default();
        match File::open(dir.unclaimed()).and_then(read_lines) {
            Ok(text) => clicks.extend(text.lines().filter_map(UnclaimedClick::of_line)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&dir.unclaimed(), &error)),
        }
        Ok(clicks)
    }

    /// The clicks.
    pub fn clicks(&self) -> &UnclaimedClicks {
        &self.clicks
    }

    /// Keeps a click, to be saved; whether it is a new one.
    pub fn add(&mut self, click: UnclaimedClick) -> bool {
        let line = format!("{click}\n");
        let is_new = self.clicks.add(click);
        // What is written anew holds all of them.
        if is_new && self.file.is_some() && !self.is_stale {
            self.unwritten.push_str(&line);
            self.lines += 1;
        }
        is_new
    }

    /// Drops clicks, here and, when it is saved, in the file.
    pub fn retain(&mut self, keep: impl Fn(&UnclaimedClick) -> bool) {
        let before = self.clicks.len();
        self.clicks.retain(keep);
        self.is_stale |= self.clicks.len() != before;
    }

    /// Writes what is not in the file yet. The first time, and after another process had it,
    /// takes the file and what it holds.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when another process has the file, else what the operating system says. All is
    /// kept in memory meanwhile, and the next call tries again.
    pub fn save(&mut self) -> io::Result<()> {
        let saved = match self.file {
            Some(_) => Ok(()),
            None => self.take_file(),
        };
        saved.and_then(|()| match self.is_stale || self.lines > MOST_LINES {
            true => self.write_anew(),
            false => self.append(),
        })
    }

    fn append(&mut self) -> io::Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| !self.unwritten.is_empty()) else {
            return Ok(());
        };
        let written = file.write_all(self.unwritten.as_bytes());
        self.unwritten.clear();
        // A part of it may be there.
        self.is_stale = written.is_err();
        written
    }

    fn take_file(&mut self) -> io::Result<()> {
        let has_own = !self.clicks.is_empty();
        let file = self.lock_file()?;
        let text = read_lines(file.try_clone()?)?;
        self.clicks.extend(text.lines().filter_map(UnclaimedClick::of_line));
        self.lines = text.lines().count();
        let is_whole = text.is_empty() || text.ends_with('\n');
        self.is_stale = has_own || !is_whole;
        self.file = Some(file);
        Ok(())
    }

    /// Opens the file, or makes it, and sees that it is the one of its name once it is locked.
    fn lock_file(&self) -> io::Result<File> {
        let path = self.dir.unclaimed();
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o600).open(&path)?;
        file.try_lock()?;
        self.dir.give_to_owner(&path)?;
        match fs::metadata(&path)?.ino() == file.metadata()?.ino() {
            true => Ok(file),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let lines: String =
            self.clicks.in_order().iter().map(|click| format!("{click}\n")).collect();
        self.dir.replace(&self.dir.unclaimed(), lines.as_bytes()).map_err(io::Error::other)?;
        (self.lines, self.is_stale) = (self.clicks.len(), false);
        self.unwritten.clear();
        // The lock belongs to the file that was there before.
        self.file = None;
        self.file = Some(self.lock_file()?);
        Ok(())
    }
}

/// All of the file, or its beginning where somebody made it longer than it can become.
fn read_lines(file: File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(MOST_OCTETS).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key that is missing.
    const REAL: u32 = u32::MAX;

    fn click(key: u32, n: usize) -> UnclaimedClick {
        UnclaimedClick {
            received: Time::from_millis(1_800_000_000_000 + n as i64).expect("in range"),
            source: Source::OneClick,
            key: KeyId(key.to_be_bytes()),
            token: format!("{key}-{n}").into(),
        }
    }

    fn count(clicks: &UnclaimedClicks, key: u32) -> usize {
        clicks.iter().filter(|click| click.key == KeyId(key.to_be_bytes())).count()
    }

    /// `floods` clicks, the n-th by the id that `id` says, after each `every` of them a real one.
    fn flooded(floods: usize, every: usize, id: impl Fn(usize) -> u32) -> UnclaimedClicks {
        let mut clicks = UnclaimedClicks::default();
        for n in 0..floods {
            clicks.add(click(id(n), n));
            if n % every == 0 {
                clicks.add(click(REAL, n));
            }
        }
        let held: HashSet<_> = clicks.iter().map(|click| Arc::clone(&click.token)).collect();
        assert!(held == clicks.tokens && clicks.iter().count() == clicks.len(), "each once");
        assert!(clicks.len() <= UnclaimedClicks::ROOM);
        clicks
    }

    #[test]
    fn all_is_kept_while_there_is_room_and_each_once() {
        let clicks = flooded(4000, 100, |n| n as u32 % 50);
        assert_eq!((clicks.len(), count(&clicks, REAL)), (4040, 40));
        let mut clicks = clicks;
        assert!(!clicks.add(click(REAL, 0)));
        assert_eq!(clicks.len(), 4040);
    }

    #[test]
    fn one_id_holds_no_more_than_half() {
        let clicks = flooded(20_000, usize::MAX, |_| 7);
        assert_eq!(count(&clicks, 7), UnclaimedClicks::ROOM / 2);
    }

    #[test]
    fn ids_with_one_click_each_take_nothing_from_one_with_more() {
        for every in [500, 4000] {
            let clicks = flooded(40_000, every, |n| n as u32);
            assert_eq!(count(&clicks, REAL), 40_000 / every, "one in {every}");
            assert_eq!(clicks.len(), UnclaimedClicks::ROOM);
        }
    }

    #[test]
    fn ids_with_three_clicks_each_take_nothing_from_one_that_had_more_before() {
        let mut clicks = flooded(10, 1, |_| REAL);
        clicks.extend((0..40_000).map(|n| click(n as u32 / 3, n)));
        assert_eq!(count(&clicks, REAL), 10);
    }

    /// The second share is there for this: in the first all of these give way.
    #[test]
    fn a_few_ids_with_many_clicks_leave_every_id_its_part() {
        for ids in [1, 7, 10, 60] {
            let clicks = flooded(40_000, 2000, |n| n as u32 % ids);
            assert_eq!(count(&clicks, REAL), 20, "{ids} ids");
        }
    }

    /// What no rule of the shares keeps, the lot keeps in proportion.
    #[test]
    fn whoever_knows_the_rules_gets_no_more_than_in_proportion() {
        let mut clicks = UnclaimedClicks::default();
        clicks.extend((0..400).map(|n| click(REAL, n)));
        // First each id outgrows the real one, then there are too many ids for a fair part.
        clicks.extend((0..8192).map(|n| click(n as u32 % 16, n)));
        clicks.extend((0..12_000).map(|n| click(100 + n as u32, n)));
        let kept = count(&clicks, REAL);
        assert!((10..200).contains(&kept), "{kept}");
    }

    #[test]
    fn what_is_dropped_makes_room_and_the_rest_stays() {
        let mut clicks = flooded(20_000, 200, |n| n as u32);
        clicks.retain(|click| click.key.0 == REAL.to_be_bytes());
        assert_eq!((clicks.len(), count(&clicks, REAL)), (100, 100));
        assert_eq!(clicks.most(3), [(KeyId(REAL.to_be_bytes()), 100)]);
        clicks.retain(|_| false);
        assert!(clicks.is_empty() && clicks.add(click(REAL, 0)));
    }

    fn place() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let place = DataDir::new(dir.path());
        (dir, place)
    }

    fn opened(dir: &DataDir) -> Unclaimed {
        let mut unclaimed = Unclaimed::new(dir.clone());
        unclaimed.save().expect("the file is taken");
        unclaimed
    }

    fn sorted(clicks: &UnclaimedClicks) -> Vec<String> {
        clicks.in_order().iter().map(UnclaimedClick::to_string).collect()
    }

    #[test]
    fn what_was_saved_is_there_again_and_what_was_dropped_is_not() {
        let (_dir, dir) = place();
        let mut unclaimed = opened(&dir);
        (0..10).for_each(|n| assert!(unclaimed.add(click(n % 3, n as usize))));
        unclaimed.save().expect("saved");
        let saved = sorted(unclaimed.clicks());
        drop(unclaimed);
        let mut unclaimed = opened(&dir);
        assert_eq!(sorted(unclaimed.clicks()), saved);
        unclaimed.retain(|click| click.key.0 != [0; 4]);
        assert!(!unclaimed.add(click(1, 1)) && unclaimed.add(click(0, 100)));
        unclaimed.save().expect("saved");
        let left = sorted(unclaimed.clicks());
        assert_eq!(left.len(), 7);
        drop(unclaimed);
        assert_eq!(sorted(&Unclaimed::read(&dir).expect("it is there")), left);
        let mode = fs::metadata(dir.unclaimed()).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_file_is_bounded_also_in_a_flood() {
        let (_dir, dir) = place();
        let mut unclaimed = opened(&dir);
        for n in 0..30_000 {
            unclaimed.add(click(n as u32, n));
            if n % 500 == 0 {
                unclaimed.save().expect("saved");
                let text = fs::read_to_string(dir.unclaimed()).expect("text");
                assert!(text.lines().count() <= MOST_LINES + 500, "after {n}");
            }
        }
        unclaimed.save().expect("saved");
        drop(unclaimed);
        assert_eq!(opened(&dir).clicks().len(), UnclaimedClicks::ROOM);
    }

    #[test]
    fn one_process_at_a_time_has_the_file_and_the_next_brings_its_own() {
        let (_dir, dir) = place();
        let mut old = opened(&dir);
        let mut new = Unclaimed::new(dir.clone());
        assert!(new.add(click(1, 1)) && old.add(click(2, 2)));
        assert_eq!(new.save().map_err(|e| e.kind()), Err(io::ErrorKind::WouldBlock));
        old.retain(|_| true);
        old.save().expect("saved");
        drop(old);
        new.save().expect("it is free");
        assert_eq!((new.clicks().len(), Unclaimed::read(&dir).expect("there").len()), (2, 2));
    }

    #[test]
    fn what_cannot_be_saved_is_saved_later() {
        let (_dir, dir) = place();
        fs::create_dir(dir.unclaimed()).expect("a directory in its place");
        let mut unclaimed = Unclaimed::new(dir.clone());
        assert!(unclaimed.save().is_err() && unclaimed.add(click(1, 1)));
        assert!(unclaimed.save().is_err());
        fs::remove_dir(dir.unclaimed()).expect("removed");
        unclaimed.save().expect("saved");
        // A file that takes nothing more, as on a full disk.
        unclaimed.file = Some(File::open("/dev/null").expect("readable"));
        assert!(unclaimed.add(click(2, 2)) && unclaimed.save().is_err());
        assert!(unclaimed.add(click(3, 3)));
        unclaimed.save().expect("saved");
        assert!(unclaimed.add(click(4, 4)));
        unclaimed.save().expect("saved");
        assert_eq!(Unclaimed::read(&dir).expect("there").len(), 4);
    }

    #[test]
    fn what_is_no_click_is_passed_over() {
        let (_dir, dir) = place();
        let lines = format!("{}\nnonsense\n\u{0}\n{}", click(1, 1), click(2, 2));
        fs::write(dir.unclaimed(), &lines[..lines.len() - 4]).expect("written");
        let mut unclaimed = opened(&dir);
        unclaimed.add(click(3, 3));
        unclaimed.save().expect("saved");
        drop(unclaimed);
        let clicks = Unclaimed::read(&dir).expect("there");
        assert_eq!((count(&clicks, 1), count(&clicks, 3)), (1, 1));
    }
}
