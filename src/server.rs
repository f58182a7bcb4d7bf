//! pgshunt as a process: listeners, signals, reload, drain. It puts the parts together and holds none of their work.

pub mod build;
pub mod inspect;
mod overtime;
pub mod secrets;
pub mod sources;

use crate::auth::client::{AcceptContext, Accepted, ListenerSecurity, Login, accept};
use crate::auth::keyring::{Holder, Present};
use crate::auth::keys::BackendKeys;
use crate::auth::users::Users;
use crate::config::{Config, ServerAddress};
use crate::exec::backend::Backend;
use crate::exec::cancels::{Cancels, Registered};
use crate::exec::executor::CancelSlot;
use crate::exec::failure::Report;
use crate::exec::neighbours::Neighbours;
use crate::log::LogHandle;
use crate::net::{Door, Stream};
use crate::pool::Ceilings;
use crate::session::Session;
use crate::session::startup::{Parts, begin, refuse};
use crate::stats::{Clients, Identity, Stats};
use crate::wire::sqlstate::SqlState;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

/// Connections that have not proven who they are; more wait in the listener's queue.
const LOGINS_MAX: usize = 512;
/// Pause between two rounds of the statistics' upkeep.
const SWEEP_PAUSE: Duration = Duration::from_secs(10);
/// Pools are kept filled for a while after their last use; what is needed for that stays a little longer.
const UPKEEP_MARGIN: Duration = Duration::from_secs(5);

/// Before the first look at scratch databases that nobody needs, and between two of them.
const SCRATCH_FIRST: Duration = Duration::from_secs(2);
const SCRATCH_PAUSE: Duration = Duration::from_secs(300);
/// Pause between two looks at the home shard's schema.
const CATALOG_PAUSE: Duration = Duration::from_secs(30);

type Backends = HashMap<String, Arc<ArcSwap<Backend>>>;
/// What a listener shows clients that want TLS; replaced by a reload, for those that come after it.
type Security = Arc<ArcSwapOption<ListenerSecurity>>;
/// Of all listeners, as just read.
type Certificates = Vec<(ServerAddress, Option<Arc<ListenerSecurity>>)>;

/// What every connection may need.
pub struct App {
    path: PathBuf,
    config: ArcSwap<Config>,
    backends: ArcSwap<Backends>,
    users: ArcSwap<Users>,
    keys: Arc<BackendKeys>,
    common: build::Common,
    /// of each listener, by its address
    security: HashMap<ServerAddress, Security>,
    cancels: Arc<Cancels>,
    clients: Arc<Clients>,
    stats: Arc<Stats>,
    log: LogHandle,
    shutdown: watch::Sender<bool>,
    /// the same for sessions, which look at it without a lock
    closing: Arc<AtomicBool>,
    logins: Arc<Semaphore>,
    /// one reload at a time
    reload: tokio::sync::Mutex<()>,
    /// after each reload
    reloaded: tokio::sync::Notify,
}

/// What a client has here as long as it is connected.
struct Stay {
    /// its key for cancel requests
    _registered: Registered,
    /// what it has shown, for logins to servers
    _present: Option<Box<Present>>,
}

/// Serves until SIGTERM or SIGINT.
#[must_use]
pub fn serve(path: &Path) -> ExitCode {
    let config = match crate::config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let log = match crate::log::init(&config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match runtime(config.workers) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(path, config, log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            eprintln!("pgshunt: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread costs least per query; more are there when asked for.
pub fn runtime(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    if workers <= 1 {
        return tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
}

async fn run(path: &Path, config: Config, log: LogHandle) -> Result<(), String> {
    let config = Arc::new(config);
    let users = secrets::users(&config)?;
    let security = security(&config)?;
    let clients = Clients::new(config.limits.clients_max);
    let common = build::Common {
        ring: Arc::default(),
        neighbours: Neighbours::new(clients.clone()),
        ceilings: Ceilings::new(config.limits.server_connections_max),
    };
    let backends = build::backends(&config, &common, &Backends::new()).await?;
    let app = Arc::new(App {
        path: path.to_owned(),
        backends: ArcSwap::from_pointee(backends),
        users: ArcSwap::from_pointee(users),
        keys: Arc::default(),
        common,
        security: security
            .into_iter()
            .map(|(address, security)| (address, Arc::new(ArcSwapOption::new(security))))
            .collect(),
        cancels: Arc::default(),
        clients,
        stats: Stats::new(config.workers, config.limits.queries_max),
        log,
        shutdown: watch::Sender::new(false),
        closing: Arc::default(),
        logins: Arc::new(Semaphore::new(LOGINS_MAX)),
        reload: tokio::sync::Mutex::new(()),
        reloaded: tokio::sync::Notify::new(),
        config: ArcSwap::new(config.clone()),
    });
    app.clone().listen(&config)?;
    app.clone().upkeep(&config).await?;
    app.until_stopped().await
}

/// Reads the certificates of all listeners.
fn security(config: &Config) -> Result<Certificates, String> {
    let read = |listener: &crate::config::Listener| {
        let tls = listener.tls.as_ref().map(ListenerSecurity::new);
        let tls = tls.transpose().map_err(|e| e.to_string())?;
        Ok((listener.address(), tls.map(Arc::new)))
    };
    config.listeners.iter().map(read).collect()
}

impl App {
    fn listen(self: Arc<Self>, config: &Config) -> Result<(), String> {
        for listener in &config.listeners {
            let address = format!("{}:{}", listener.host, listener.port);
            let doors =
                Door::open(listener).map_err(|e| format!("cannot listen on {address}: {e}"))?;
            tracing::info!(%address, "listening");
            let security = self.security.get(&listener.address());
            let security = security.cloned().unwrap_or_default();
            for door in doors {
                tokio::spawn(self.clone().accept_all(door, security.clone()));
            }
        }
        Ok(())
    }

    async fn accept_all(self: Arc<Self>, door: Door, security: Security) {
        let mut shutdown = self.shutdown.subscribe();
        loop {
            let Ok(permit) = self.logins.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = door.accept() => accepted,
                _ = shutdown.wait_for(|down| *down) => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let app = self.clone();
                    let tls = security.load_full();
                    // boxed: a task's future is moved a dozen times before and after it runs
                    tokio::spawn(Box::pin(app.welcome(socket, peer, tls, permit)));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn welcome(
        self: Arc<Self>,
        socket: Stream,
        peer: Option<std::net::SocketAddr>,
        tls: Option<Arc<ListenerSecurity>>,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) {
        let context = AcceptContext {
            tls,
            users: self.users.load_full(),
            keys: self.keys.clone(),
            login_max: self.config.load().limits.login_max,
        };
        let accepted = accept(socket, peer, &context).await;
        drop(permit);
        match accepted {
            Ok(Accepted::Cancel {
                pid,
                secret,
                stream,
            }) => {
                Box::pin(self.cancels.cancel(pid, &secret)).await;
                drop(stream);
            }
            Ok(Accepted::Session(login)) => {
                if let Some((session, stay)) = Box::pin(self.session(*login)).await {
                    // a task of its own, without the room that a login needs
                    tokio::spawn(Box::pin(async move {
                        session.serve().await;
                        drop(stay);
                    }));
                }
            }
            Err(error) => tracing::debug!(%error, "log-in failed"),
        }
    }

    /// The session of one who is in, and what ends with it; None when there is none, or it was the console's and is over.
    async fn session(self: Arc<Self>, mut login: Login) -> Option<(Box<Session>, Stay)> {
        let config = self.config.load_full();
        let identity = Identity {
            user: login.user.clone(),
            database: login.database.clone(),
            peer: login.peer,
            pid: login.pid,
        };
        let Some(handle) = self.clients.register(identity, Instant::now()) else {
            let report = Report::new(
                SqlState::TOO_MANY_CONNECTIONS,
                "sorry, too many clients already",
            )
            .hint("limits.clients_max in the shard map bounds them.");
            Box::pin(refuse(login, &report)).await;
            return None;
        };
        if let Some(report) = self.too_many(&config, &login) {
            Box::pin(refuse(login, &report)).await;
            return None;
        }
        if let Some(name) = login.parameters.get("application_name") {
            handle.set_application_name(name);
        }
        if login.database == config.admin.database {
            Box::pin(self.console(login, handle)).await;
            return None;
        }
        let Some(slot) = self.backends.load().get(&login.database).cloned() else {
            let report = Report::new(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{}\" does not exist", login.database),
            );
            Box::pin(refuse(login, &report)).await;
            return None;
        };
        let cancel = Arc::new(CancelSlot::default());
        let registered = self.cancels.register(&login, cancel.clone());
        let present = login.keys.take().map(|keys| {
            let holder = Holder {
                database: login.database.clone(),
                user: login.user.clone(),
            };
            let backend = slot.load();
            let keep = backend.snapshot().database.pool.idle_max + UPKEEP_MARGIN;
            let (present, news) = self.common.ring.bring(holder, *keys, keep);
            if news {
                backend.servers.forget_failures(&login.user);
            }
            Box::new(present)
        });
        let recorder = self.stats.recorder(&login.database, &login.user);
        let closing = self.closing.clone();
        let parts = Parts {
            login,
            slot,
            cancel,
            cancels: self.cancels.clone(),
            recorder,
            handle,
            closing,
        };
        let stay = Stay {
            _registered: registered,
            _present: present,
        };
        Some((Box::pin(begin(parts)).await?, stay))
    }

    /// This client is one more than its user or its database may have.
    fn too_many(&self, config: &Config, login: &Login) -> Option<Report> {
        let refused = |whose: String| {
            Report::new(
                SqlState::TOO_MANY_CONNECTIONS,
                format!("too many clients of {whose}"),
            )
            .hint(format!(
                "clients_max in the limits of {whose} in the shard map bounds them."
            ))
        };
        let (user, database) = (&login.user, &login.database);
        let [of_user, of_database] = config.clients_max(user, database);
        if of_user.is_some_and(|max| self.clients.count_of(|c| c.user == *user) > max) {
            return Some(refused(format!("user \"{user}\"")));
        }
        if of_database.is_some_and(|max| self.clients.count_of(|c| c.database == *database) > max) {
            return Some(refused(format!("database \"{database}\"")));
        }
        None
    }

    async fn console(self: Arc<Self>, mut login: Login, _handle: crate::stats::ClientHandle) {
        if login.stream.write_all(&login.unsent).await.is_err() {
            return;
        }
        let greeting = crate::admin::Greeting {
            user: login.user,
            database: login.database,
            application_name: login
                .parameters
                .get("application_name")
                .cloned()
                .unwrap_or_default(),
            peer: login.peer,
            pid: login.pid,
            secret: login.secret,
        };
        let mut shutdown = self.shutdown.subscribe();
        let sources: Arc<dyn crate::admin::Sources> = self.clone();
        tokio::select! {
            served = crate::admin::serve(login.stream, login.unread, greeting, sources) => {
                if let Err(error) = served {
                    tracing::debug!(%error, "the admin console's client is gone");
                }
            }
            _ = shutdown.wait_for(|down| *down) => {}
        }
    }

    async fn upkeep(self: Arc<Self>, config: &Config) -> Result<(), String> {
        if let Some(address) = &config.admin.http {
            let listener = TcpListener::bind(address).await.map_err(|e| {
                format!("cannot listen on {address} for /metrics and /healthz: {e}")
            })?;
            tracing::info!(%address, "serving /metrics and /healthz");
            let sources: Arc<dyn crate::admin::Sources> = self.clone();
            tokio::spawn(async move {
                if let Err(error) = crate::admin::serve_http(listener, sources).await {
                    tracing::error!(%error, "/metrics and /healthz are no longer served");
                }
            });
        }
        tokio::spawn(self.clone().sweep());
        tokio::spawn(self.clone().oversee());
        tokio::spawn(self.clone().drop_old_scratches());
        tokio::spawn(self.refresh_catalogs());
        Ok(())
    }

    /// Soon after the start, after each reload, and now and then.
    async fn drop_old_scratches(self: Arc<Self>) {
        tokio::time::sleep(SCRATCH_FIRST).await;
        loop {
            let slots: Vec<_> = self.backends.load().values().cloned().collect();
            for slot in slots {
                slot.load_full().drop_old_scratches().await;
            }
            let reloaded = self.reloaded.notified();
            let _ = tokio::time::timeout(SCRATCH_PAUSE, reloaded).await;
        }
    }

    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_PAUSE).await;
            self.stats.sweep();
            self.common.ring.sweep(Instant::now());
        }
    }

    /// DDL may reach a shard by another way, or the home shard may have been down at the start.
    async fn refresh_catalogs(self: Arc<Self>) {
        loop {
            tokio::time::sleep(CATALOG_PAUSE).await;
            let slots: Vec<_> = self.backends.load().values().cloned().collect();
            for slot in slots {
                let backend = slot.load_full();
                if let Err(error) = backend.refresh_catalog().await {
                    tracing::debug!(%error, "the catalog could not be loaded");
                }
                if let Err(error) = backend.look_at_defaults().await {
                    tracing::debug!(%error, "what sessions begin with is not known");
                }
            }
        }
    }

    async fn until_stopped(self: Arc<Self>) -> Result<(), String> {
        let handle = |kind| signal(kind).map_err(|e| format!("cannot wait for signals: {e}"));
        let mut hangup = handle(SignalKind::hangup())?;
        let mut terminate = handle(SignalKind::terminate())?;
        let mut interrupt = handle(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                _ = hangup.recv() => match self.reload_map().await {
                    Ok(what) => tracing::info!("reloaded: {what}"),
                    Err(why) => tracing::error!("not reloaded, everything stays as it was: {why}"),
                },
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        self.drain().await;
        Ok(())
    }

    /// Lets transactions in flight end; idle clients are told at once.
    async fn drain(&self) {
        let most = self.config.load().limits.drain_max;
        tracing::info!(clients = self.clients.count(), ?most, "shutting down");
        self.closing.store(true, Ordering::SeqCst);
        self.shutdown.send_replace(true);
        self.cancels.ring_all();
        let end = Instant::now() + most;
        while self.clients.count() > 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let left = self.clients.count();
        if left > 0 {
            tracing::warn!(clients = left, "closed before their transactions ended");
        }
    }

    /// Reads the shard map again. Sessions take the new one over between transactions.
    async fn reload_map(&self) -> Result<String, String> {
        let _one = self.reload.lock().await;
        let config = Arc::new(crate::config::load(&self.path).map_err(|e| e.to_string())?);
        let users = secrets::users(&config)?;
        let security = security(&config)?;
        let old = self.backends.load_full();
        let fresh = build::backends(&config, &self.common, &old).await?;
        let mut merged = Backends::new();
        for (name, slot) in fresh {
            match old.get(&name) {
                Some(existing) => {
                    let before = existing.swap(slot.load_full());
                    let listeners = &existing.load().notifications;
                    if !Arc::ptr_eq(&before.notifications, listeners) {
                        before.notifications.retire();
                    }
                    merged.insert(name, existing.clone());
                }
                None => {
                    merged.insert(name, slot);
                }
            }
        }
        let mut names: Vec<_> = merged.keys().cloned().collect();
        names.sort();
        self.log
            .set_level(&config.log.level)
            .map_err(|e| e.to_string())?;
        let note = if self.secure(security) {
            ""
        } else {
            "; the addresses of listeners change only with a restart"
        };
        self.backends.store(Arc::new(merged));
        let ceilings = &self.common.ceilings;
        ceilings.set_max(config.limits.server_connections_max);
        self.config.store(config);
        self.users.store(Arc::new(users));
        self.reloaded.notify_one();
        Ok(format!("databases {}{note}", names.join(", ")))
    }

    /// Shows these certificates to those who come from now on; who is in stays as it is. False when the listeners are not
    /// those we have.
    fn secure(&self, fresh: Certificates) -> bool {
        let same = fresh.len() == self.security.len();
        let ours =
            fresh
                .into_iter()
                .filter(|(address, security)| match self.security.get(address) {
                    Some(slot) => {
                        slot.store(security.clone());
                        true
                    }
                    None => false,
                });
        ours.count() == self.security.len() && same
    }
}
