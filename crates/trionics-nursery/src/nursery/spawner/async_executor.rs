//! Children on an executor of the `async-executor` crate, which smol is built on.

use std::future::Future;

use async_executor::{Executor, LocalExecutor};

use super::Spawner;

#[cfg_attr(docsrs, doc(cfg(feature = "async-executor")))]
impl Spawner for Executor<'_> {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        Self::spawn(self, task).detach();
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "async-executor")))]
impl Spawner for LocalExecutor<'_> {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        Self::spawn(self, task).detach();
    }
}
