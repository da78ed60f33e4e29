//! The service on a store that fails before a call does anything, after it did, or hangs, at every
//! call that it makes: nobody is told 200 for what is not durable, and nobody waits for ever.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use optout::ledger::tree::{Hash, Node};
use optout::ledger::{
    ApiKey, Command, DataDir, Dropped, Entry, Essential, Event, ForgetRequest, Forgotten,
    Frequency, Holding, Import, ImportMark, KeyFile, LateStore, LinkMark, Look, Outcome, Page,
    Reason, Recipient, Salt, SpoolMark, SpoolSettings, SqliteStore, Standing, Store, StoreError,
    Survey, Time, Verification, WebhookMark, WebhookStart, Withdrawal,
};
use optout::link::{BaseUrl, KeyId, Link, ListId, Scope, SigningKey};
use optout::serve::{
    Catalogue, Destination, Limits, ListenerSettings, Pages, Publication, Settings, Sockets, run,
};

const LIST: &str = "weekly.example.com";

/// What the service gives the store for an answer.
const DEADLINE: Duration = Duration::from_millis(300);

/// Nobody waits as long as this, on a machine however busy.
const FOR_EVER: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Before,
    After,
    Hang,
}

/// A store whose `nth` call of a method, and those after it while they are less than `times`, fail.
#[derive(Debug)]
struct Faulty {
    store: SqliteStore,
    method: &'static str,
    nth: usize,
    times: usize,
    fault: Fault,
    calls: Mutex<HashMap<&'static str, usize>>,
    answers: Arc<Answers>,
}

/// What the client got, which ends a hanging call: so nobody may wait for one to end.
#[derive(Debug, Default)]
struct Answers {
    /// How many, and whether one is asked for now.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Answers {
    fn asking(&self, is_asking: bool) {
        let mut state = self.state.lock().expect("no panic while it is held");
        *state = (state.0 + 1, is_asking);
        self.changed.notify_all();
    }

    /// Until the present question is answered.
    fn wait(&self) {
        let state = self.state.lock().expect("no panic while it is held");
        let (count, is_asked) = *state;
        if is_asked {
            let unanswered = |state: &mut (usize, bool)| state.0 == count;
            drop(self.changed.wait_timeout_while(state, 2 * FOR_EVER, unanswered));
        }
    }
}

impl Faulty {
    fn call<T>(
        &self,
        method: &'static str,
        work: impl FnOnce(&SqliteStore) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let nth = {
            let mut calls = self.calls.lock().expect("no panic while it is held");
            let count = calls.entry(method).or_default();
            *count += 1;
            *count
        };
        let is_hit = method == self.method && (self.nth..self.nth + self.times).contains(&nth);
        let error = || StoreError::Io { path: "the disk".into(), detail: "injected".into() };
        match self.fault {
            Fault::Before if is_hit => Err(error()),
            Fault::After if is_hit => work(&self.store).and_then(|_| Err(error())),
            Fault::Hang if is_hit => {
                self.answers.wait();
                work(&self.store)
            }
            _ => work(&self.store),
        }
    }
}

/// Each method of the contract, through [`Faulty::call`].
macro_rules! through_call {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {
        /// Every method that can fail.
        const METHODS: &[&str] = &[$(stringify!($name)),+];

        impl Store for Faulty {
            fn name(&self) -> &str {
                self.store.name()
            }

            fn glance(&self) -> Option<Look> {
                self.store.glance()
            }

            fn link_mark(&self, recipient: &Recipient, link: &str) -> LinkMark {
                self.store.link_mark(recipient, link)
            }

            fn salt(&self, recipient: &Recipient) -> Salt {
                self.store.salt(recipient)
            }

            fn is_surely_free(&self, recipient: &Recipient, scope: &Scope) -> bool {
                self.store.is_surely_free(recipient, scope)
            }

            $(fn $name(&self, $($argument: $type),*) -> Result<$result, StoreError> {
                self.call(stringify!($name), |store| store.$name($($argument),*))
            })+
        }
    };
}

through_call! {
    record(commands: &[Command], now: Time) -> Vec<Outcome>;
    record_spooled(commands: &[Command], replayed: SpoolMark, now: Time) -> Vec<Outcome>;
    begin_import(plan: &str) -> Import;
    imports() -> Vec<Import>;
    record_import(number: u64, marks: (ImportMark, ImportMark), rows: &[Command], now: Time) -> Vec<Outcome>;
    withdraw_import(number: u64) -> BTreeSet<u64>;
    withdraw(withdrawal: &Withdrawal, recipients: &[Recipient], now: Time) -> Vec<usize>;
    survey(after: u64, upto: u64) -> Survey;
    spool_mark() -> Option<SpoolMark>;
    forget(request: &ForgetRequest, now: Time) -> Forgotten;
    forget_dormant(before: Time, now: Time, stop: &dyn Fn() -> bool) -> Dropped;
    count_repeats(repeats: &[(u64, u32)]) -> ();
    fold() -> bool;
    warm(stop: &dyn Fn() -> bool) -> ();
    standings(recipients: &[Recipient]) -> Vec<Standing>;
    standings_after(upto: u64, recipients: &[Recipient]) -> Vec<Standing>;
    holding(recipient: &Recipient) -> Option<Holding>;
    events(page: Page, limit: usize) -> Vec<Event>;
    entries(page: Page, limit: usize) -> Vec<Entry>;
    entries_about(recipient: &Recipient, before: u64, limit: usize) -> Vec<Entry>;
    event(number: u64) -> Option<Event>;
    essential() -> Essential;
    describe(lists: &[(ListId, bool)], actor: Option<&str>, now: Time) -> usize;
    admit(list: &ListId, sending: &str, who: &[(Recipient, Frequency)], now: Time) -> Vec<Option<Time>>;
    knows(scope: &Scope) -> bool;
    look() -> Look;
    check_place() -> ();
    probe(patience: Duration) -> ();
    node(node: Node) -> Hash;
    verify(size: Option<u64>, progress: &mut dyn FnMut(f64)) -> Verification;
    api_keys() -> Vec<ApiKey>;
    add_api_key(key: &ApiKey) -> ();
    revoke_api_key(id: &str, now: Time) -> Option<ApiKey>;
    key_uses() -> Vec<(KeyId, Time)>;
    webhooks() -> Vec<WebhookMark>;
    begin_webhooks(webhooks: &[(String, WebhookStart)]) -> ();
    keep_webhooks(marks: &[WebhookMark]) -> ();
    resume_webhook(name: &str, after: Option<u64>) -> Option<WebhookMark>;
    checkpoint_left(destination: &str) -> Option<Time>;
    keep_checkpoint_left(destination: &str, at: Time) -> ();
}

/// The service on a store of its own, in this process.
struct Place {
    dir: tempfile::TempDir,
    key: SigningKey,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let data = DataDir::new(dir.path().join("data"));
        SqliteStore::create(&data).expect("a store");
        let now = Time::from(std::time::SystemTime::now());
        let key = KeyFile::update(&data, |keys| {
            Ok(keys.generate(Vec::new(), now)?.key.reveal().as_str().to_owned())
        });
        let key = key.expect("a key").parse().expect("its text");
        Self { dir, key }
    }

    fn data(&self) -> DataDir {
        DataDir::new(self.dir.path().join("data"))
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.data()).expect("the store")
    }

    fn token(&self, recipient: &str) -> String {
        let list: ListId = LIST.parse().expect("a list");
        let link = Link::new(1_767_225_600, list, "", recipient).expect("a link");
        link.seal(&self.key).as_str().to_owned()
    }

    /// Runs the service on the store while `work` goes on.
    fn serve(
        &self,
        store: Arc<dyn Store>,
        (answers, fault): (&Answers, &str),
        work: impl FnOnce(Client<'_>),
    ) {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let data = self.data();
        let service = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let sockets = Sockets::open(listen, listen).expect("ports");
                let public = sockets.public_address().expect("an address");
                let api = sockets.api_address().expect("an address");
                tell.send((public, api)).expect("somebody waits");
                let settings = settings(&data);
                let stop = async { drop(stopped.await) };
                run(Arc::new(LateStore::opened(store)), data, settings, sockets, stop).await
            })
        });
        if let Ok((public, api)) = told.recv() {
            work(Client { public, api, answers, fault });
        }
        drop(stop);
        // A store that fails from the first call on may keep the service from starting.
        let _ = service.join().expect("no panic in the service");
    }

    /// Whether an opt-out is on the disk, in the store or in the spool.
    fn is_durable(&self, recipient: &str) -> bool {
        let list: ListId = LIST.parse().expect("a list");
        let who = Recipient::parse(recipient).expect("a recipient");
        let standing = self.store().standings(&[who]).expect("read").remove(0);
        let now = Time::from(std::time::SystemTime::now());
        let stands =
            standing.suppression_for(&list, now, &Essential::default()).map(|stands| stands.reason);
        let spool = std::fs::read(self.data().spool()).unwrap_or_default();
        let token = self.token(recipient);
        stands == Some(Reason::Unsubscribe)
            || spool.windows(token.len()).any(|part| part == token.as_bytes())
    }
}

fn settings(data: &DataDir) -> Settings {
    let limits = Limits {
        header: DEADLINE,
        body: DEADLINE,
        write: DEADLINE,
        record: DEADLINE,
        drain: DEADLINE,
    };
    let listener = |name| ListenerSettings { name, max_connections: 100, limits: limits.clone() };
    Settings {
        base_url: BaseUrl::parse("https://leave.example.com").expect("a base URL"),
        may_mint: true,
        mailto_host: None,
        trusted_proxies: Vec::new(),
        public: listener("public"),
        api: listener("api"),
        catalogue: Catalogue::default(),
        user: None,
        pages: Pages::load(None, None).expect("they are compiled in"),
        spool: Some(SpoolSettings { path: data.spool(), size: 64 * 1024 }),
        webhooks: Vec::new(),
        publication: Publication {
            every: FOR_EVER,
            destinations: vec![Destination::Directory(data.path().join(".."))],
        },
        retention: None,
    }
}

#[derive(Clone, Copy)]
struct Client<'a> {
    public: SocketAddr,
    api: SocketAddr,
    answers: &'a Answers,
    /// What fails, for messages.
    fault: &'a str,
}

impl Client<'_> {
    /// The status; 0 when nobody answers.
    fn ask(self, address: SocketAddr, head: &str, body: &str) -> u16 {
        self.answers.asking(true);
        let status = self.status(address, head, body);
        self.answers.asking(false);
        status
    }

    /// On a connection of its own.
    fn status(self, address: SocketAddr, head: &str, body: &str) -> u16 {
        let began = Instant::now();
        let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
        stream.set_read_timeout(Some(FOR_EVER)).expect("a socket option");
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut answer = String::new();
        if stream.write_all(request.as_bytes()).is_err()
            || stream.read_to_string(&mut answer).is_err()
        {
            assert!(began.elapsed() < FOR_EVER, "{}: {head} hung", self.fault);
            return 0;
        }
        assert!(began.elapsed() < FOR_EVER, "{}: {head} hung", self.fault);
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn click(self, token: &str) -> u16 {
        self.ask(self.public, &format!("POST /u/{token}"), "List-Unsubscribe=One-Click")
    }

    fn is_well(self) -> bool {
        self.ask(self.public, "GET /healthz", "") == 200
    }
}

/// Everything that the service is asked for, with clicks in between. Returns whose clicks were
/// answered 200; each of them is durable at that moment.
fn everything(place: &Place, client: Client<'_>) -> Vec<String> {
    let mut accepted = Vec::new();
    for n in 0..4 {
        let who = format!("r{n}@example.org");
        let token = place.token(&who);
        for _ in 0..2 {
            if client.click(&token) == 200 {
                assert!(place.is_durable(&who), "{who} was told 200");
                accepted.push(who.clone());
            }
        }
        client.ask(client.public, &format!("GET /u/{token}"), "");
        for path in [
            format!("GET /v1/check?list={LIST}&recipient={who}"),
            format!("GET /v1/check?list=unknown.example.com&recipient=z{n}@example.org"),
            format!("GET /v1/suppressions?recipient={who}"),
            "GET /v1/events".to_owned(),
            "GET /metrics".to_owned(),
        ] {
            client.ask(client.api, &path, "");
        }
        let body = serde_json::json!({"recipient": format!("s{n}@example.org"), "scope": LIST});
        client.ask(client.api, "POST /v1/suppressions", &body.to_string());
        let body = serde_json::json!({"recipient": format!("s{n}@example.org"), "scope": LIST,
            "reason": "manual", "note": "by mistake"});
        client.ask(client.api, "POST /v1/releases", &body.to_string());
        client.is_well();
    }
    accepted
}

fn attempt(method: &'static str, nth: usize, times: usize, fault: Fault) {
    let place = Place::new();
    let store = place.store().folding_behind(2);
    let (calls, answers) = (Mutex::default(), Arc::new(Answers::default()));
    let shared = Arc::clone(&answers);
    let faulty = Arc::new(Faulty { store, method, nth, times, fault, calls, answers: shared });
    let mut accepted = Vec::new();
    let said = format!("{method} {nth} {fault:?}");
    place.serve(faulty, (&answers, &said), |client| accepted = everything(&place, client));
    // On a sound store what was spooled is recorded, and each exactly once.
    place.serve(Arc::new(place.store()), (&answers, &said), |client| {
        let began = Instant::now();
        let spool = || std::fs::read(place.data().spool()).unwrap_or_default();
        while !client.is_well() || spool().iter().skip(64).any(|&byte| byte != 0) {
            assert!(began.elapsed() < FOR_EVER, "{method} {fault:?}: it does not get well");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let store = place.store();
    let entries = store.entries(Page::After(0), 1000).expect("read");
    for who in accepted {
        let own = |entry: &&Entry| entry.recipient.as_deref() == Some(&*who) && entry.event.changed;
        assert_eq!(entries.iter().filter(own).count(), 1, "{method} {nth} {fault:?}: {who}");
    }
    let found = store.verify(None, &mut |_| ()).expect("read");
    assert_eq!(found.faults, Vec::<String>::new(), "{method} {nth} {fault:?}");
}

/// Several at a time, since most of the time is waiting.
fn attempts(fault: Fault) {
    let cases: Vec<_> = METHODS
        .iter()
        .flat_map(|&method| [(1, 1), (2, 1), (3, 2), (2, usize::MAX / 2)].map(|at| (method, at)))
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(&(method, (nth, times))) = cases.get(at) else { return };
                    attempt(method, nth, times, fault);
                }
            });
        }
    });
}

#[test]
fn a_store_that_fails_before_it_does_anything() {
    attempts(Fault::Before);
}

#[test]
fn a_store_that_does_it_and_fails() {
    attempts(Fault::After);
}

#[test]
fn a_store_that_hangs() {
    attempts(Fault::Hang);
}
