//! Waiting that ends when what is waited for is not wanted any more.

use crate::Error;
use std::{fs::File, time::Duration};

/// How often whoever asked is asked whether to go on.
const TICK: Duration = Duration::from_millis(200);

/// Waits for `future`.
///
/// # Errors
/// Those of `goes_on`.
pub async fn while_wanted<T>(
    goes_on: &dyn Fn() -> Result<(), Error>,
    future: impl Future<Output = T>,
) -> Result<T, Error> {
    let mut future = std::pin::pin!(future);
    loop {
        match tokio::time::timeout(TICK, &mut future).await {
            Ok(value) => return Ok(value),
            Err(_) => goes_on()?,
        }
    }
}

/// Waits until a lock is free. Another process may take it before the caller does, who then waits for that one.
///
/// # Errors
/// Those of `goes_on`.
pub fn until_free(
    lock: &mut fd_lock::RwLock<File>,
    goes_on: &dyn Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    while lock.try_write().is_err() {
        goes_on()?;
        std::thread::sleep(TICK);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Says so `n_times` times.
    fn wanted(n_times: u32) -> impl Fn() -> Result<(), Error> {
        let n_left = Cell::new(n_times);
        move || match n_left.replace(n_left.get().saturating_sub(1)) {
            0 => Err(Error::Cancelled),
            _ => Ok(()),
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(while_wanted(&wanted(1), std::future::pending::<()>()));
        assert!(matches!(outcome, Err(Error::Cancelled)));
        let outcome = runtime.block_on(while_wanted(&wanted(0), std::future::ready(7)));
        assert_eq!(outcome.unwrap(), 7);

        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || fd_lock::RwLock::new(fs_err::File::create(file.path()).unwrap().into_file());
        let (mut first, mut second) = (open(), open());
        let held = first.write().unwrap();
        assert!(matches!(until_free(&mut second, &wanted(1)), Err(Error::Cancelled)));
        drop(held);
        until_free(&mut second, &wanted(0)).unwrap();
    }
}
