//! The workers of a run: processes, or tasks where no other process could reach the store.

use std::{
    io::{self, Read as _, Write as _},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::oneshot,
    task::JoinHandle,
};

use super::{
    cli::Options,
    worker::{Job, Seen},
};

/// All workers, and what they have said so far.
#[derive(Default)]
pub(super) struct Crew {
    members: Vec<Member>,
    /// One for each that ever worked.
    seen: Vec<Arc<Mutex<Seen>>>,
}

struct Member {
    name: String,
    work: Work,
    /// How many in a row ended in its place before they had seen anything.
    idle: u32,
}

enum Work {
    Process {
        child: Box<Child>,
        /// Open as long as it is to work.
        stdin: Option<ChildStdin>,
        listening: JoinHandle<()>,
        seen: Arc<Mutex<Seen>>,
    },
    Task {
        stop: oneshot::Sender<()>,
        task: JoinHandle<Result<(), String>>,
    },
}

/// How long a worker that is told to stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many in a row that ended before they had seen anything were not killed by somebody: none will ever get to work.
const IDLE: u32 = 2;

impl Crew {
    /// Starts a worker as a process of its own.
    pub(super) fn start_process(&mut self, name: String, run: &str, options: &Options) -> Result<(), String> {
        let work = self.spawn(&name, run, options).map_err(|error| format!("cannot start a worker: {error}"))?;
        self.members.push(Member { name, work, idle: 0 });
        Ok(())
    }

    /// Starts a worker as a task of this process.
    pub(super) fn start_task(&mut self, name: String, job: Job) {
        let seen = self.listen();
        let (stop, stopped) = oneshot::channel();
        let say = move |now| *seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let work = async move {
            // Told to stop, or forgotten.
            let stopped = async { drop(stopped.await) };
            job.work(say, stopped).await
        };
        let work = Work::Task { stop, task: tokio::spawn(work) };
        self.members.push(Member { name, work, idle: 0 });
    }

    /// Kills a worker, each time another one, and starts one in its place under the same name.
    pub(super) async fn replace(&mut self, kill: usize, run: &str, options: &Options) -> Result<(), String> {
        let place = kill % self.members.len().max(1);
        self.kill(place).await?;
        self.start_again(place, run, options)
    }

    /// Starts another in the place of each that somebody else has killed, or that ended in another way. How many.
    pub(super) async fn fill(&mut self, run: &str, options: &Options) -> Result<u64, String> {
        let mut gone = 0;
        for place in 0..self.members.len() {
            if self.members.get_mut(place).is_some_and(Member::is_gone) {
                if self.kill(place).await? >= IDLE {
                    return Err("a worker ended by itself, and so did the one in its place".to_owned());
                }
                self.start_again(place, run, options)?;
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// How many in a row were idle in this place, this one included.
    async fn kill(&mut self, place: usize) -> Result<u32, String> {
        let Some(Member { name, work, idle }) = self.members.get_mut(place) else { return Ok(0) };
        let seen = work.kill().await.map_err(|error| format!("worker `{name}`: {error}"))?;
        *idle = if seen.delivered > 0 { 0 } else { *idle + 1 };
        Ok(*idle)
    }

    fn start_again(&mut self, place: usize, run: &str, options: &Options) -> Result<(), String> {
        let name = self.members.get(place).map(|member| member.name.clone()).unwrap_or_default();
        let work = self.spawn(&name, run, options).map_err(|error| format!("cannot start a worker: {error}"))?;
        if let Some(member) = self.members.get_mut(place) {
            member.work = work;
        }
        Ok(())
    }

    /// Lets all finish what they have begun.
    pub(super) async fn stop(&mut self) -> Result<(), String> {
        for member in &mut self.members {
            if let Work::Process { stdin, .. } = &mut member.work {
                drop(stdin.take());
            }
        }
        let mut trouble = Ok(());
        for Member { name, work, .. } in self.members.drain(..) {
            let ended = tokio::time::timeout(PATIENCE, work.end()).await;
            if let Err(error) = ended.unwrap_or_else(|_| Err("it does not stop".to_owned())) {
                trouble = Err(format!("worker `{name}`: {error}"));
            }
        }
        trouble
    }

    /// What all of them saw, those that are gone too.
    pub(super) fn seen(&self) -> Seen {
        let mut sum = Seen::default();
        for seen in &self.seen {
            let seen = *seen.lock().unwrap_or_else(PoisonError::into_inner);
            sum.delivered += seen.delivered;
            sum.redelivered += seen.redelivered;
            sum.duplicates += seen.duplicates;
        }
        sum
    }

    fn spawn(&mut self, name: &str, run: &str, options: &Options) -> io::Result<Work> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--worker", name, "--run", run]).envs(options.environment());
        if let Some(ledger) = &options.ledger {
            command.arg("--ledger").arg(ledger);
        }
        for (flag, given) in [("--chaos", options.chaos), ("--transactional", options.transactional)] {
            if given {
                command.arg(flag);
            }
        }
        // Ctrl-C in a terminal is for the process that stops them in good order.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let seen = self.listen();
        let heard = Arc::clone(&seen);
        let listening = tokio::spawn(async move {
            let Some(stdout) = stdout else { return };
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // Half a line is what a killed worker could not say any more.
                if let Ok(now) = serde_json::from_str(&line) {
                    *heard.lock().unwrap_or_else(PoisonError::into_inner) = now;
                }
            }
        });
        Ok(Work::Process { child: Box::new(child), stdin, listening, seen })
    }

    fn listen(&mut self) -> Arc<Mutex<Seen>> {
        let seen = Arc::default();
        self.seen.push(Arc::clone(&seen));
        seen
    }
}

impl Member {
    fn is_gone(&mut self) -> bool {
        match &mut self.work {
            Work::Process { child, .. } => !matches!(child.try_wait(), Ok(None)),
            Work::Task { task, .. } => task.is_finished(),
        }
    }
}

impl Work {
    /// Kills it, unless it is gone, and tells what it has seen.
    async fn kill(&mut self) -> io::Result<Seen> {
        match self {
            Self::Process { child, listening, seen, .. } => {
                if child.try_wait()?.is_none() {
                    child.kill().await?;
                }
                // What it has said is in the pipe, and counts.
                heard(listening).await?;
                Ok(*seen.lock().unwrap_or_else(PoisonError::into_inner))
            }
            // Why, it says when it is waited for in the end.
            Self::Task { .. } => Err(io::Error::other("it ended by itself")),
        }
    }

    async fn end(self) -> Result<(), String> {
        match self {
            Self::Process { mut child, mut listening, .. } => {
                let status = child.wait().await.map_err(|error| error.to_string())?;
                heard(&mut listening).await.map_err(|error| error.to_string())?;
                if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
            }
            Self::Task { stop, task } => {
                let _ = stop.send(());
                task.await.map_err(|error| error.to_string())?
            }
        }
    }
}

/// Until everything that a worker said was heard. Of one that was killed and has no other in its place, it was.
async fn heard(listening: &mut JoinHandle<()>) -> io::Result<()> {
    if listening.is_finished() { Ok(()) } else { listening.await.map_err(io::Error::other) }
}

/// Says what this worker saw to the process that started it.
pub(super) fn say(seen: Seen) {
    let mut out = io::stdout();
    if let Ok(line) = serde_json::to_string(&seen) {
        // Nobody listens any more: then it is to stop anyway.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// Resolves when the process that started this one wants it to stop, or is gone.
pub(super) async fn told_to_stop() {
    let (stop, stopped) = oneshot::channel();
    // A thread of its own: a read that nothing ends would keep the runtime from ending.
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let _ = stop.send(());
    });
    drop(stopped.await);
}
