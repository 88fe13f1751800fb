//! The threads that answer for the shards, which must not wait. Passwords have threads of their
//! own, so that a storm of logins keeps no token waiting, and a bounded number of them, so that it
//! leaves the machine something for the traffic.

use super::Credentials;
use super::answer::nobody_knows;
use crate::auth::{Busy, Clerk, Question, Ticket, Verdict};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

/// Questions about tokens or certificates that are answered together at most: they share one
/// transaction where they are first uses.
const TOGETHER_MAX: usize = 64;

/// Answers questions, each by its place.
type Answer = dyn Fn(&[Question], &mut dyn FnMut(usize, Verdict)) + Send + Sync;
/// Brings a verdict to who asked.
type Reply = dyn Fn(Ticket, Verdict) + Send + Sync;

/// What waits for a thread.
enum Job {
    Ask(Ticket, Question),
    /// The thread that takes it ends.
    End,
}

/// The threads. They end when this is dropped: what waits then is answered with 503.
#[derive(Debug)]
pub struct Workers {
    desk: QuestionDesk,
    threads: Vec<JoinHandle<()>>,
    password_threads: usize,
    is_ending: Arc<AtomicBool>,
}

/// Where questions are handed in. Clones share the queues.
#[derive(Debug, Clone)]
pub struct QuestionDesk {
    quick: Sender<Job>,
    passwords: Sender<Job>,
}

impl Workers {
    /// Starts `password_threads` (at least one) for passwords and one for everything else. At most
    /// `queue_max` questions wait for either.
    ///
    /// `reply` is called on these threads while the store cannot change: a verdict that has been
    /// put in a queue by it is ahead of every revocation that contradicts it. It must be quick and
    /// must not use the store.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        credentials: Credentials,
        password_threads: usize,
        queue_max: usize,
        reply: impl Fn(Ticket, Verdict) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let answer = move |questions: &[Question], give: &mut dyn FnMut(usize, Verdict)| {
            credentials.answer_all(questions, give);
        };
        Self::start_with(Arc::new(answer), password_threads.max(1), queue_max, Arc::new(reply))
    }

    fn start_with(
        answer: Arc<Answer>,
        password_threads: usize,
        queue_max: usize,
        reply: Arc<Reply>,
    ) -> io::Result<Self> {
        let (quick, quick_jobs) = bounded(queue_max);
        let (passwords, password_jobs) = bounded(queue_max);
        let is_ending = Arc::new(AtomicBool::new(false));
        let desk = QuestionDesk { quick, passwords };
        // Dropped on a failure below, it ends the threads that have been started.
        let mut workers =
            Self { desk, threads: Vec::new(), password_threads, is_ending: is_ending.clone() };
        for number in 0..=password_threads {
            let (name, jobs, together_max) = match number {
                0 => ("credentials".to_owned(), quick_jobs.clone(), TOGETHER_MAX),
                _ => (format!("passwords-{number}"), password_jobs.clone(), 1),
            };
            let (answer, reply, is_ending) = (answer.clone(), reply.clone(), is_ending.clone());
            let worker = Worker { jobs, together_max, answer, reply, is_ending };
            let thread = std::thread::Builder::new().name(name).spawn(move || worker.run())?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Where questions are handed in.
    pub fn desk(&self) -> QuestionDesk {
        self.desk.clone()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.is_ending.store(true, Relaxed);
        // Waits while a queue is full, which the threads now empty quickly. A thread that is gone
        // needs no end: then the send may fail.
        let _ = self.desk.quick.send(Job::End);
        for _ in 0..self.password_threads {
            let _ = self.desk.passwords.send(Job::End);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the credentials had panicked");
            }
        }
    }
}

impl Clerk for QuestionDesk {
    fn ask(&self, ticket: Ticket, question: Question) -> Result<(), Busy> {
        let queue = match question {
            Question::Basic { .. } => &self.passwords,
            Question::Token { .. } | Question::Certificate { .. } => &self.quick,
        };
        // A desk whose workers have ended takes nothing either.
        queue.try_send(Job::Ask(ticket, question)).map_err(|_| Busy)
    }
}

struct Worker {
    jobs: Receiver<Job>,
    together_max: usize,
    answer: Arc<Answer>,
    reply: Arc<Reply>,
    is_ending: Arc<AtomicBool>,
}

impl Worker {
    fn run(self) {
        let (mut tickets, mut questions) = (Vec::new(), Vec::new());
        loop {
            let mut ends = false;
            let mut take = |job| match job {
                Job::Ask(ticket, question) => {
                    tickets.push(ticket);
                    questions.push(question);
                    true
                }
                Job::End => {
                    ends = true;
                    false
                }
            };
            // Fails only when all senders are gone, which is an end too.
            let Ok(first) = self.jobs.recv() else { return };
            let mut goes_on = take(first);
            for _ in 1..self.together_max {
                if !goes_on {
                    break;
                }
                let Ok(next) = self.jobs.try_recv() else { break };
                goes_on = take(next);
            }
            self.serve(&tickets, &questions);
            tickets.clear();
            questions.clear();
            if ends {
                return;
            }
        }
    }

    /// Every ticket gets its verdict, whatever happens. The message of a panic is the program's
    /// own, and goes where all go.
    fn serve(&self, tickets: &[Ticket], questions: &[Question]) {
        let mut served = vec![false; tickets.len()];
        if !self.is_ending.load(Relaxed) {
            let answered = catch_unwind(AssertUnwindSafe(|| {
                (self.answer)(questions, &mut |place, verdict| {
                    served[place] = true;
                    (self.reply)(tickets[place], verdict);
                });
            }));
            if answered.is_err() {
                tracing::error!("answering {} questions about credentials failed", tickets.len());
            }
        }
        for (ticket, _) in tickets.iter().zip(&served).filter(|(_, served)| !**served) {
            (self.reply)(*ticket, nobody_knows());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{EndpointGrant, Rejection};
    use crate::config::Secret;
    use std::sync::mpsc;

    fn token(text: &str) -> Question {
        Question::Token { app: "app".into(), token: Secret::new(text) }
    }

    fn password() -> Question {
        let password = Secret::new("p");
        Question::Basic { tenant: "t".into(), username: "u".into(), password }
    }

    fn ticket(ask: u64) -> Ticket {
        Ticket { shard: 3, ask }
    }

    /// Good tokens but for the one named `panic`; a password waits for a permit.
    fn answer(permits: Receiver<()>) -> Arc<Answer> {
        Arc::new(move |questions: &[Question], give: &mut dyn FnMut(usize, Verdict)| {
            for (place, question) in questions.iter().enumerate() {
                match question {
                    Question::Token { token, .. } => {
                        assert_ne!(token.expose(), "panic");
                        let endpoint_id = token.expose().into();
                        give(
                            place,
                            Verdict::Endpoint(EndpointGrant { endpoint_id, token_id: None }),
                        );
                    }
                    _ => {
                        // Also at the end, when nobody permits any more.
                        let _ = permits.recv();
                        give(place, Verdict::Rejected(Rejection::new(401, "no")));
                    }
                }
            }
        })
    }

    fn start(queue_max: usize) -> (Workers, Sender<()>, mpsc::Receiver<(Ticket, Verdict)>) {
        let (permit, permits) = bounded(16);
        let (send, replies) = mpsc::channel();
        let reply = move |ticket, verdict| {
            // The test may have ended.
            let _ = send.send((ticket, verdict));
        };
        let workers = Workers::start_with(answer(permits), 2, queue_max, Arc::new(reply));
        (workers.expect("threads start"), permit, replies)
    }

    #[test]
    fn waiting_passwords_keep_no_token_waiting_and_are_bounded() {
        let (workers, permit, replies) = start(2);
        let desk = workers.desk();
        let mut taken = 0;
        // Two with the threads, two in the queue; the threads may not have taken theirs yet.
        while taken < 4 {
            match desk.ask(ticket(taken), password()) {
                Ok(()) => taken += 1,
                Err(Busy) => std::thread::yield_now(),
            }
        }
        assert_eq!(desk.ask(ticket(4), password()), Err(Busy));
        desk.ask(ticket(5), token("t")).expect("has another queue");
        assert_eq!(replies.recv().expect("answers").0, ticket(5));
        for _ in 0..4 {
            permit.send(()).expect("permits");
        }
        let mut asks: Vec<u64> = (0..4).map(|_| replies.recv().expect("answers").0.ask).collect();
        asks.sort_unstable();
        assert_eq!(asks, [0, 1, 2, 3]);
    }

    #[test]
    fn a_panic_is_answered_with_503_and_the_thread_lives_on() {
        let (workers, _permit, replies) = start(8);
        let desk = workers.desk();
        for ask in 0..2 {
            desk.ask(ticket(ask), token("panic")).expect("takes it");
            let (answered, verdict) = replies.recv().expect("answers");
            assert_eq!(answered, ticket(ask));
            assert_eq!(verdict, nobody_knows());
        }
        desk.ask(ticket(2), token("good")).expect("takes it");
        assert!(matches!(replies.recv().expect("answers").1, Verdict::Endpoint(_)));
    }

    #[test]
    fn what_waits_at_the_end_is_answered_and_nothing_is_taken_any_more() {
        let (workers, permit, replies) = start(16);
        let desk = workers.desk();
        for ask in 0..10 {
            desk.ask(ticket(ask), password()).expect("takes it");
        }
        let is_ending = workers.is_ending.clone();
        let dropper = std::thread::spawn(move || drop(workers));
        while !is_ending.load(Relaxed) {
            std::thread::yield_now();
        }
        // The threads are at two of them at most.
        drop(permit);
        dropper.join().expect("ends");
        let verdicts: Vec<Verdict> = replies.try_iter().map(|(_, verdict)| verdict).collect();
        assert_eq!(verdicts.len(), 10, "each once");
        let unanswered = verdicts.iter().filter(|verdict| **verdict == nobody_knows()).count();
        assert!(unanswered >= 8, "{verdicts:?}");
        assert_eq!(desk.ask(ticket(10), password()), Err(Busy));
        assert_eq!(desk.ask(ticket(11), token("t")), Err(Busy));
    }
}
