//! Children on a tokio runtime.

use std::future::Future;

use tokio::runtime::Handle;

use super::{SpawnBlocking, Spawner};

#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
impl Spawner for Handle {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(Self::spawn(self, task));
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
impl SpawnBlocking for Handle {
    fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        drop(Self::spawn_blocking(self, work));
    }
}
