//! A PostgreSQL server on a free port, in a folder of its own, with its own settings.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};

use super::{Result, servers::Process};

/// Ended, and its folder with it, when dropped.
pub(super) struct Postgres {
    _process: Process,
    url: String,
}

impl Postgres {
    pub(super) async fn start(folder: &Path) -> Result<Self> {
        let data = folder.join("postgres");
        fs::create_dir(&data)?;
        let user = somebody(folder)?;
        let mut initdb = as_user(user.as_deref(), &program("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"]).arg(&data);
        let made = initdb.current_dir(folder).output().map_err(missing)?;
        if !made.status.success() {
            return Err(format!("`initdb` failed: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let mut postgres = as_user(user.as_deref(), &program("postgres"));
        postgres.arg("-D").arg(&data).args(["-p", &port, "-h", "127.0.0.1", "-k", ""]);
        postgres.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Asked to end and not killed: a killed one leaves its children behind.
        let process = Process::ended_politely(postgres.spawn().map_err(missing)?);
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = PgConnection::connect(&url).await {
            if Instant::now() > deadline {
                return Err(format!("`postgres` did not start: {error}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { _process: process, url })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

fn missing(error: std::io::Error) -> String {
    format!("PostgreSQL cannot be started ({error}); install postgresql")
}

/// Whom to run as, and the folder given to them: PostgreSQL refuses to work for root. `None`: this user.
fn somebody(folder: &Path) -> Result<Option<String>> {
    let id = |args: &[&str]| -> Option<String> {
        let output = Command::new("id").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if id(&["-u"]).as_deref() != Some("0") {
        return Ok(None);
    }
    let user =
        id(&["-u", "postgres"]).or_else(|| id(&["-u", "nobody"])).ok_or("no user but root to run postgres as")?;
    let given = Command::new("chown").args(["-R", &user]).arg(folder).status()?;
    given.success().then_some(Some(user)).ok_or_else(|| "`chown` failed".into())
}

fn as_user(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program);
    command
}

/// The newest program of this name that Debian's packages bring, or that of the `PATH`.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse::<u32>().ok()?, version.path())))
        .map(|(version, path)| (version, path.join("bin").join(name)))
        .filter(|(_, program)| program.exists())
        .max();
    newest.map_or_else(|| PathBuf::from(name), |(_, program)| program)
}
