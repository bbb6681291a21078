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
}

enum Work {
    Process {
        child: Box<Child>,
        /// Open as long as it is to work.
        stdin: Option<ChildStdin>,
        listening: JoinHandle<()>,
    },
    Task {
        stop: oneshot::Sender<()>,
        task: JoinHandle<Result<(), String>>,
    },
}

/// How long a worker that is told to stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

impl Crew {
    /// Starts a worker as a process of its own.
    pub(super) fn start_process(&mut self, name: String, run: &str, options: &Options) -> Result<(), String> {
        let work = self.spawn(&name, run, options).map_err(|error| format!("cannot start a worker: {error}"))?;
        self.members.push(Member { name, work });
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
        self.members.push(Member { name, work: Work::Task { stop, task: tokio::spawn(work) } });
    }

    /// Kills a worker, each time another one, and starts one in its place under the same name.
    pub(super) async fn replace(&mut self, kill: usize, run: &str, options: &Options) -> Result<(), String> {
        let place = kill % self.members.len().max(1);
        let Some(Member { name, work: Work::Process { child, listening, .. } }) = self.members.get_mut(place) else {
            return Ok(());
        };
        let name = name.clone();
        let killed = async {
            child.kill().await?;
            // What it has said is in the pipe, and counts.
            listening.await.map_err(io::Error::other)
        };
        killed.await.map_err(|error| format!("cannot kill a worker: {error}"))?;
        let work = self.spawn(&name, run, options).map_err(|error| format!("cannot start a worker: {error}"))?;
        if let Some(member) = self.members.get_mut(place) {
            member.work = work;
        }
        Ok(())
    }

    /// Whether all are there that should be.
    pub(super) fn is_whole(&mut self) -> bool {
        self.members.iter_mut().all(|member| match &mut member.work {
            Work::Process { child, .. } => matches!(child.try_wait(), Ok(None)),
            Work::Task { task, .. } => !task.is_finished(),
        })
    }

    /// Lets all finish what they have begun.
    pub(super) async fn stop(&mut self) -> Result<(), String> {
        for member in &mut self.members {
            if let Work::Process { stdin, .. } = &mut member.work {
                drop(stdin.take());
            }
        }
        let mut trouble = Ok(());
        for Member { name, work } in self.members.drain(..) {
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
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let seen = self.listen();
        let listening = tokio::spawn(async move {
            let Some(stdout) = stdout else { return };
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // Half a line is what a killed worker could not say any more.
                if let Ok(now) = serde_json::from_str(&line) {
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
                }
            }
        });
        Ok(Work::Process { child: Box::new(child), stdin, listening })
    }

    fn listen(&mut self) -> Arc<Mutex<Seen>> {
        let seen = Arc::default();
        self.seen.push(Arc::clone(&seen));
        seen
    }
}

impl Work {
    async fn end(self) -> Result<(), String> {
        match self {
            Self::Process { mut child, listening, .. } => {
                let status = child.wait().await.map_err(|error| error.to_string())?;
                listening.await.map_err(|error| error.to_string())?;
                if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
            }
            Self::Task { stop, task } => {
                let _ = stop.send(());
                task.await.map_err(|error| error.to_string())?
            }
        }
    }
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
