//! Shared by the tests of waiting tasks: executors, and wakers that count.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

pub const LONG: Duration = Duration::from_secs(60);

/// A waker that counts its wakes and its holders.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    pub fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        let waker = Waker::from(Arc::clone(&count));
        (count, waker)
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Returns how many hold the waker, not counting the two that `new` returned.
    pub fn holders(self: &Arc<Self>) -> usize {
        Arc::strong_count(self) - 2
    }
}

/// Polls a future once.
pub fn poll_once<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// The smallest executor: it parks the thread between two polls.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::SeqCst);
            self.0.unpark();
        }
    }
    let unpark = Arc::new(Unpark(std::thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return outcome;
        }
        while !unpark.1.swap(false, Ordering::SeqCst) {
            std::thread::park_timeout(LONG);
        }
    }
}

/// Ways to run a future to its end.
pub type Executors<F> = [(&'static str, fn(F) -> <F as Future>::Output); 4];

pub fn executors<F>() -> Executors<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    [
        ("a hand-written one", |future| block_on(future)),
        ("pollster", |future| pollster::block_on(future)),
        ("tokio, on this thread", |future| {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
        }),
        ("tokio, on other threads", |future| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
            runtime.block_on(async { tokio::spawn(future).await.unwrap() })
        }),
    ]
}

/// Runs a task immediately where it is woken: within the put or the commit that woke it. Only its wakers own the task.
pub fn run_where_woken(future: impl Future<Output = ()> + Send + 'static) {
    struct Task {
        future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
        is_woken: AtomicBool,
    }
    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.is_woken.store(true, Ordering::SeqCst);
            let waker = Waker::from(Arc::clone(&self));
            while self.is_woken.load(Ordering::SeqCst) {
                // If it is already running, that thread polls it again.
                let Ok(mut future) = self.future.try_lock() else { return };
                self.is_woken.store(false, Ordering::SeqCst);
                let Some(running) = &mut *future else { return };
                if running.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    *future = None;
                }
            }
        }
    }
    let future = Mutex::new(Some(Box::pin(future) as Pin<Box<dyn Future<Output = ()> + Send>>));
    Waker::from(Arc::new(Task { future, is_woken: AtomicBool::new(false) })).wake();
}

/// Runs all futures on this thread, and `after` once each of them has begun to wait.
pub fn run_all_on_this_thread<F: Future<Output: 'static> + 'static>(
    futures: impl IntoIterator<Item = F>,
    after: impl FnOnce(),
) -> Vec<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let waiting_count = Rc::new(Cell::new(0));
    let begin = |future: F| {
        let waiting_count = Rc::clone(&waiting_count);
        let mut future = Box::pin(future);
        let mut is_counted = false;
        tasks.spawn_local(poll_fn(move |context| {
            let outcome = future.as_mut().poll(context);
            if !std::mem::replace(&mut is_counted, true) {
                waiting_count.set(waiting_count.get() + 1);
            }
            outcome
        }))
    };
    let handles: Vec<_> = futures.into_iter().map(begin).collect();
    runtime.block_on(tasks.run_until(async {
        while waiting_count.get() < handles.len() {
            tokio::task::yield_now().await;
        }
        assert!(handles.iter().all(|handle| !handle.is_finished()), "all of them wait");
        after();
        let mut outcomes = vec![];
        for handle in handles {
            outcomes.push(handle.await.unwrap());
        }
        outcomes
    }))
}
