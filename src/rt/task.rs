//! Tasks of a shard, their timers and their wake-ups. All of it is local to one thread.
//!
//! What monoio 0.2.4 forbids shapes this: a task that wakes itself starves its shard, and a run
//! queue that never empties stops its timers, so the only way to give way is to wait for a
//! descriptor ([`Readiness::ready`](super::ready::Readiness::ready)); a pending I/O future must
//! never be dropped while data is at stake, so there is no `select`, and the only wait with a
//! deadline, [`Notify::notified_within`], races a timer against a flag and never against I/O.

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

    /// Waits until the flag is raised, and takes it down. Only one task may wait at a time: a
    /// second one takes the first one's place.
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
}
