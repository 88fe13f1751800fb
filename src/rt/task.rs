//! Tasks of a shard, their timers and their wake-ups. All of it is local to one thread.
//!
//! What monoio 0.2.4 forbids shapes this: a task that wakes itself starves its shard, so the only
//! way to give way is [`yield_fairly`]; a pending I/O future must never be dropped while data is at
//! stake, so there is no `select`, and the only wait with a deadline, [`Notify::notified_within`],
//! races a timer against a flag and never against I/O.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A task that runs on this thread. Dropping it lets the task run on.
pub struct Task<T>(monoio::task::JoinHandle<T>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

/// Starts a task on this thread's runtime.
///
/// # Panics
/// Outside a runtime.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    Task(monoio::spawn(future))
}

/// Waits for `duration`.
///
/// # Panics
/// Outside a runtime.
pub async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// Lets every other task that is ready, and completed I/O, have its turn. A task that woke itself
/// instead would never let the runtime look at its ring (monoio 0.2.4).
///
/// # Panics
/// Outside a runtime.
pub async fn yield_fairly() {
    spawn(async {}).await;
}

/// A flag one task waits for and others on the same thread raise. A raised flag is kept until it is
/// taken; raising it twice is the same as once.
#[derive(Debug, Default)]
pub struct Notify {
    is_raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Notify {
    /// A flag not raised.
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Raises the flag and wakes the task that waits for it.
    pub fn notify(&self) {
        self.is_raised.set(true);
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    /// Waits until the flag is raised, and takes it down. Only one task may wait at a time: a second
    /// one takes the first one's place.
    pub fn notified(&self) -> Notified<'_> {
        Notified(self)
    }

    /// As [`notified`](Self::notified) for at most `duration`; false if that passed first.
    ///
    /// # Panics
    /// Outside a runtime.
    pub async fn notified_within(&self, duration: Duration) -> bool {
        monoio::time::timeout(duration, self.notified()).await.is_ok()
    }
}

/// The future of [`Notify::notified`].
#[derive(Debug)]
pub struct Notified<'a>(&'a Notify);

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0.is_raised.take() {
            return Poll::Ready(());
        }
        *self.0.waiter.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::rt::runtime;

    const LONG: Duration = Duration::from_secs(30);

    fn run<F: Future>(main: impl FnOnce() -> F) -> F::Output {
        runtime::run(None, main).expect("a runtime")
    }

    #[test]
    fn a_raised_flag_is_kept_for_the_next_wait_and_no_longer() {
        run(async || {
            let flag = Notify::new();
            flag.notify();
            flag.notify();
            assert!(flag.notified_within(LONG).await);
            assert!(!flag.notified_within(Duration::from_millis(1)).await);
        });
    }

    #[test]
    fn raising_a_flag_wakes_the_task_that_waits() {
        run(async || {
            let (ask, answer) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
            let (asked, answered) = (ask.clone(), answer.clone());
            let task = spawn(async move {
                for _ in 0..100 {
                    asked.notified().await;
                    answered.notify();
                }
                "done"
            });
            for _ in 0..100 {
                ask.notify();
                assert!(answer.notified_within(LONG).await);
            }
            assert_eq!(task.await, "done");
        });
    }

    #[test]
    fn a_wait_that_was_given_up_does_not_eat_the_flag() {
        run(async || {
            let flag = Notify::new();
            assert!(!flag.notified_within(Duration::from_millis(1)).await);
            flag.notify();
            assert!(flag.notified_within(LONG).await);
        });
    }

    #[test]
    fn a_task_that_yields_fairly_leaves_io_its_turn() {
        // A task that wakes itself lets no I/O through on monoio 0.2.4.
        run(async || {
            let (mut ours, theirs) = crate::rt::stream::tests::connected().await;
            let is_done = Rc::new(Cell::new(false));
            let seen = is_done.clone();
            let busy = spawn(async move {
                let mut turns = 0_u64;
                while !seen.get() {
                    yield_fairly().await;
                    turns += 1;
                }
                turns
            });
            let echo = std::thread::spawn(move || {
                let mut byte = [0];
                let mut theirs = &theirs;
                std::io::Read::read_exact(&mut theirs, &mut byte).expect("a byte comes");
                std::io::Write::write_all(&mut theirs, &byte).expect("it goes back");
            });
            let (written, _) = ours.1.write_all(vec![7]).await;
            written.expect("a write");
            let (read, bytes) = ours.0.read(Vec::with_capacity(8)).await;
            assert_eq!((read.expect("a read"), bytes), (1, vec![7]));
            is_done.set(true);
            assert!(busy.await > 0);
            echo.join().expect("the peer ends well");
        });
    }
}
