//! The names of the crate `parking_lot` that our dependencies use, on the locks of the standard library.
//!
//! That crate keeps all threads that wait for a lock in one table of the process. A fork copies the table as
//! it is at that moment, held or with threads in it that the child does not have, and the child's tokio then
//! hangs or ends: Python programs fork as a matter of course (`os.fork`, `multiprocessing`). The standard
//! library's locks have nothing in common. tokio takes this crate because a dependency of ours asks for all of
//! its features, which nobody else can take back.
//!
//! As there, a lock whose holder panicked is not poisoned.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{PoisonError, TryLockError};
use std::time::{Duration, Instant};

pub use std::sync::{Once, WaitTimeoutResult};

/// How often a lock is tried again by whoever waits for a limited time.
const PAUSE: Duration = Duration::from_millis(1);

/// A lock for one.
#[derive(Debug, Default)]
pub struct Mutex<T: ?Sized>(std::sync::Mutex<T>);

/// The right to what a [`Mutex`] holds. It is empty only while [`Condvar`] has it.
pub struct MutexGuard<'a, T: ?Sized>(Option<std::sync::MutexGuard<'a, T>>);

/// The right to a part of what a [`Mutex`] holds.
pub struct MappedMutexGuard<'a, U: ?Sized> {
    part: NonNull<U>,
    _whole: Box<dyn Held + 'a>,
}

/// Something that is kept for its end alone.
trait Held {}

impl<T> Held for T {}

/// A mutex for a constant.
pub const fn const_mutex<T>(value: T) -> Mutex<T> {
    Mutex(std::sync::Mutex::new(value))
}

fn tried<G>(result: Result<G, TryLockError<G>>) -> Option<G> {
    match result {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl<T> Mutex<T> {
    /// A mutex that nobody holds.
    pub const fn new(value: T) -> Self {
        const_mutex(value)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// The lock, when nobody has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        tried(self.0.try_lock()).map(|guard| MutexGuard(Some(guard)))
    }

    /// Waits for the lock for a limited time.
    pub fn try_lock_for(&self, limit: Duration) -> Option<MutexGuard<'_, T>> {
        let begin = Instant::now();
        loop {
            if let Some(guard) = self.try_lock() {
                return Some(guard);
            }
            if begin.elapsed() >= limit {
                return None;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What it holds; nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// Goes on with a part.
    pub fn map<U: ?Sized>(
        mut guard: Self,
        part: impl FnOnce(&mut T) -> &mut U,
    ) -> MappedMutexGuard<'a, U>
    where
        T: Sized,
    {
        let part = NonNull::from(part(&mut guard));
        MappedMutexGuard { part, _whole: Box::new(guard) }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(guard) => guard,
            None => unreachable!("a condition has the guard for as long as it borrows this"),
        }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(guard) => guard,
            None => unreachable!("a condition has the guard for as long as it borrows this"),
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<U: ?Sized> Deref for MappedMutexGuard<'_, U> {
    type Target = U;

    fn deref(&self) -> &U {
        // SAFETY: it lies in what the whole guard, which lives as long, gives exclusive access to; the
        // guard is only kept, and the value does not move with it.
        unsafe { self.part.as_ref() }
    }
}

impl<U: ?Sized> DerefMut for MappedMutexGuard<'_, U> {
    fn deref_mut(&mut self) -> &mut U {
        // SAFETY: as above.
        unsafe { self.part.as_mut() }
    }
}

/// A lock for many who read, or one who writes.
#[derive(Debug, Default)]
pub struct RwLock<T: ?Sized>(std::sync::RwLock<T>);

/// The right to read what a [`RwLock`] holds.
pub type RwLockReadGuard<'a, T> = std::sync::RwLockReadGuard<'a, T>;
/// The right to write to it.
pub type RwLockWriteGuard<'a, T> = std::sync::RwLockWriteGuard<'a, T>;

impl<T> RwLock<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> Self {
        Self(std::sync::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody writes.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to read, when nobody writes.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        tried(self.0.try_read())
    }

    /// Waits until nobody reads or writes.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to write, when nobody reads or writes.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        tried(self.0.try_write())
    }
}

/// Something to wait for.
#[derive(Debug, Default)]
pub struct Condvar(std::sync::Condvar);

impl Condvar {
    /// Nobody waits yet.
    pub const fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    /// Wakes one who waits.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Gives the lock away until somebody wakes it.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.0 =
            guard.0.take().map(|own| self.0.wait(own).unwrap_or_else(PoisonError::into_inner));
    }

    /// The same for a limited time.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, limit: Duration) -> WaitTimeoutResult {
        let Some(own) = guard.0.take() else {
            unreachable!("a condition has the guard for as long as it borrows this")
        };
        let waited = self.0.wait_timeout(own, limit);
        let (own, result) = waited.unwrap_or_else(PoisonError::into_inner);
        guard.0 = Some(own);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_lock_is_one_threads_at_a_time_and_survives_a_panic() {
        let lock = Arc::new(const_mutex(vec![0]));
        let held = lock.lock();
        assert!(lock.try_lock().is_none());
        assert!(lock.try_lock_for(Duration::from_millis(5)).is_none());
        let mut part = MutexGuard::map(held, |all| &mut all[0]);
        *part += 1;
        assert!(lock.try_lock().is_none());
        drop(part);
        let other = Arc::clone(&lock);
        let panicked = std::thread::spawn(move || {
            let _held = other.lock();
            panic!("with the lock");
        });
        assert!(panicked.join().is_err());
        assert_eq!(*lock.lock(), [1]);
    }

    #[test]
    fn who_waits_is_woken_or_has_waited_for_its_time() {
        let all = Arc::new((Mutex::new(false), Condvar::new()));
        let mut held = all.0.lock();
        assert!(all.1.wait_for(&mut held, Duration::from_millis(5)).timed_out());
        let other = Arc::clone(&all);
        let thread = std::thread::spawn(move || {
            *other.0.lock() = true;
            other.1.notify_all();
        });
        while !*held {
            all.1.wait(&mut held);
        }
        drop(held);
        thread.join().unwrap();
        let lock = RwLock::new(1);
        let reading = (lock.read(), lock.try_read());
        assert!(lock.try_write().is_none());
        drop(reading);
        *lock.write() += 1;
        assert_eq!(*lock.read(), 2);
    }
}
