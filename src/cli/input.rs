//! Files that people bring: a path or standard input, plain or compressed, which is seen from the
//! content. What is broken in them is said with its place.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;

use super::Failure;

/// What some programs put before UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What may separate the fields of CSV.
pub(super) const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes (RFC 1952 section 2.3.1, RFC 8878 section 3.1.1).
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// By the name's ending.
    pub(super) fn named(path: &Path) -> Self {
        match path.extension().and_then(|end| end.to_str()) {
            Some("gz") => Self::Gzip,
            Some("zst") => Self::Zstd,
            _ => Self::Plain,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Text from a file, decompressed.
pub(super) struct Input {
    /// What to call it in messages.
    name: String,
    compression: Compression,
    text: BufReader<Box<dyn Read + Send>>,
    /// The file as it was when it was opened, if it is one that has a length.
    file: Option<(File, Metadata)>,
    done: Done,
    bytes: u64,
    lines: u64,
    has_ended: bool,
}

/// How much of the file was read, for whoever shows progress meanwhile.
#[derive(Debug, Clone, Default)]
pub(super) struct Done {
    read: Arc<AtomicU64>,
    length: Option<u64>,
}

impl Done {
    /// The part that was read, from 0 to 1; `None` when nobody knows how much there is.
    pub(super) fn part(&self) -> Option<f64> {
        let length = self.length.filter(|length| *length > 0)?;
        Some((self.read.load(Ordering::Relaxed) as f64 / length as f64).min(1.0))
    }
}

/// Counts what is read.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Gzip data, one after the other (RFC 1952 section 2.2), and nothing behind them; always one, but while the
/// next takes its place.
struct Gzip<R: BufRead>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.0 {
            match decoder.read(buffer)? {
                0 if !buffer.is_empty() => {}
                read => return Ok(read),
            }
            match decoder.get_mut().fill_buf()? {
                [] => return Ok(0),
                [0x1f, ..] => {
                    self.0 = self.0.take().map(|decoder| GzDecoder::new(decoder.into_inner()));
                }
                _ => {
                    let what = "something else follows its end";
                    return Err(io::Error::new(ErrorKind::InvalidData, what));
                }
            }
        }
        Ok(0)
    }
}

/// Read from the operating system at once.
const BUFFER: usize = 1 << 18;

impl Input {
    /// The file at `path`; standard input for none and for `-`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and when its text is UTF-16.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let path = path.filter(|path| *path != Path::new("-"));
        let name =
            path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        let opened = match path {
            Some(path) => File::open(path),
            None => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        };
        opened
            .and_then(|file| Self::begin(file, name.clone()))
            .map_err(|e| Failure::new(format!("{name} cannot be read: {e}")))?
            .refuse_other_encodings()
    }

    fn begin(file: File, name: String) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        let length = metadata.is_file().then_some(metadata.len());
        let done = Done { length, ..Done::default() };
        let kept = match metadata.is_file() {
            true => Some((file.try_clone()?, metadata)),
            false => None,
        };
        let counted = Counted { file, read: Arc::clone(&done.read) };
        let (compression, raw) = peek(counted)?;
        let text: Box<dyn Read + Send> = match compression {
            Compression::Plain => Box::new(raw),
            Compression::Gzip => Box::new(Gzip(Some(GzDecoder::new(raw)))),
            Compression::Zstd => Box::new(zstd::Decoder::with_buffer(raw)?),
        };
        let text = BufReader::with_capacity(BUFFER, text);
        Ok(Self { name, compression, text, file: kept, done, bytes: 0, lines: 0, has_ended: false })
    }

    /// Every byte of UTF-16 would be read as something else.
    fn refuse_other_encodings(mut self) -> Result<Self, Failure> {
        let start = match self.text.fill_buf() {
            Ok(start) => &start[..start.len().min(4)],
            Err(error) => return Err(self.broken(&error)),
        };
        let is_marked = matches!(start, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
        if is_marked || start.contains(&0) {
            return Err(Failure::new(format!(
                "{}: it is UTF-16 or another encoding of several bytes: convert it first, as with \
                 iconv -f UTF-16 -t UTF-8",
                self.name
            )));
        }
        Ok(self)
    }

    /// What to call it in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How it is compressed.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// How much was read of it.
    pub(super) fn done(&self) -> Done {
        self.done.clone()
    }

    /// Whether nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whom the file belongs to and who may read it; `None` for what is no file.
    pub(super) fn metadata(&self) -> Option<&Metadata> {
        self.file.as_ref().map(|(_, metadata)| metadata)
    }

    /// Appends `limit` bytes of the text, or those that are left; says whether none are left.
    ///
    /// # Errors
    ///
    /// When it cannot be read, ends within its compression, or changed meanwhile.
    pub(super) fn append_to(&mut self, text: &mut Vec<u8>, limit: usize) -> Result<bool, Failure> {
        // Whoever types it has ended it once.
        if self.has_ended {
            return Ok(true);
        }
        let before = text.len();
        let read = self.text.by_ref().take(limit as u64).read_to_end(text);
        let new = &text[before..];
        self.bytes += new.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', new).count() as u64;
        self.has_ended = read.map_err(|e| self.broken(&e))? < limit;
        if self.has_ended {
            self.refuse_if_changed()?;
        }
        Ok(self.has_ended)
    }

    /// A file that somebody writes at the same time may be read half old and half new.
    fn refuse_if_changed(&self) -> Result<(), Failure> {
        let Some((file, before)) = &self.file else { return Ok(()) };
        let stamp = |meta: &Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec());
        match file.metadata() {
            Ok(now) if stamp(&now) == stamp(before) => Ok(()),
            _ => Err(Failure::new(format!(
                "{} was changed while it was read, up to line {}: run this again when it is complete",
                self.name,
                self.lines + 1
            ))),
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let (name, kind) = (&self.name, self.compression.name());
        let place = format!("after {} bytes of text, in line {}", self.bytes, self.lines + 1);
        Failure::new(match (self.compression, error.kind()) {
            (Compression::Plain, _) => format!("{name} cannot be read {place}: {error}"),
            (_, ErrorKind::UnexpectedEof) => {
                format!("{name}: its {kind} data ends early, {place}: get the whole file again")
            }
            _ => format!("{name}: its {kind} data is broken {place} ({error}): get it again"),
        })
    }
}

/// What is read may come in small pieces, so the first bytes are gathered.
fn peek(mut raw: Counted) -> io::Result<(Compression, impl BufRead + Send)> {
    let mut start = Vec::with_capacity(4);
    raw.by_ref().take(4).read_to_end(&mut start)?;
    let compression = Compression::of(&start);
    Ok((compression, BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(raw))))
}
