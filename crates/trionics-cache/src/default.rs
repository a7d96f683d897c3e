//! The cache of the process, for libraries that are given none.

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    future::Future,
    hash::{Hash, Hasher},
    marker::PhantomData,
    ops::Deref,
    sync::{Arc, PoisonError},
};

use trionics_errgroup::{Failure, LibraryFailure};
use trionics_gather::{Slot, acm, with_context};

use crate::{
    block::{CacheValue, maybe_open_context},
    cache::ContextCache,
    sync::ProcessMutex,
};

type AnyValue = Box<dyn Any + Send + Sync>;
type AnyCache = ContextCache<DefaultKey, AnyValue>;

static INSTALLED: ProcessMutex<Option<AnyCache>> = ProcessMutex::new(None);

fn installed() -> Option<AnyCache> {
    let installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    installed.clone()
}

/// Installs the cache of the process, and runs its resources until it is [closed](close_default) or
/// cancelled: a child for the root nursery of the program.
///
/// # Errors
///
/// As [`ContextCache::serve`].
///
/// # Panics
///
/// If one is installed already: there is one root.
///
/// # Cancel safety
///
/// As [`ContextCache::serve`]. It is installed by this call, and until the future ends or is dropped.
///
/// # Examples
///
/// ```
/// use trionics_cache::{close_default, maybe_open_default, serve_default};
/// use trionics_errgroup::Failure;
/// use trionics_gather::Slot;
/// use trionics_nursery::{Nursery, open_nursery};
///
/// // In a library:
/// async fn connect(host: &'static str, slot: Slot<String>) -> Result<(), Failure> {
///     slot.provide(format!("connected to {host}")).await;
///     Ok(())
/// }
/// async fn greet() -> Result<usize, Failure> {
///     maybe_open_default(connect, "db", async |_cache_hit, connection| Ok(connection.len())).await
/// }
///
/// // In the program:
/// # futures::executor::block_on(async {
/// open_nursery(async |n: Nursery<'_>| {
///     n.start_soon(serve_default());
///     assert_eq!(greet().await?, "connected to db".len());
///     close_default();
///     Ok(())
/// })
/// .await
/// .unwrap();
/// # });
/// ```
#[track_caller]
pub fn serve_default() -> impl Future<Output = Result<(), Failure>> + Send {
    let cache: AnyCache = ContextCache::options().name("default").build();
    let service = cache.serve();
    let is_first = {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if installed.is_none() {
            *installed = Some(cache.clone());
            true
        } else {
            false
        }
    };
    assert!(
        is_first,
        "the cache of the process is installed already: call `serve_default` once, in the root nursery"
    );
    let uninstaller = Uninstaller { cache };
    async move {
        let _uninstaller = uninstaller;
        service.await
    }
}

/// Closes the cache of the process, if there is one: its service ends once the last user has left.
pub fn close_default() {
    if let Some(cache) = installed() {
        cache.close();
    }
}

/// Takes the cache out when its service has ended.
struct Uninstaller {
    cache: AnyCache,
}

impl Drop for Uninstaller {
    fn drop(&mut self) {
        self.cache.close();
        let removed = INSTALLED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(removed);
    }
}

/// Opens the context that `function` makes of `arguments`, in the cache of the process, for as long as
/// `body` runs.
///
/// The key is the function's type together with the arguments: calls of the same function with equal
/// arguments share one resource. The function must be a function item or a closure that captures
/// nothing: what it captured would not be part of the key. Others do not compile.
///
/// # Errors
///
/// As [`maybe_open_context`]; [`LibraryFailure::Closed`] if no cache is
/// [installed](serve_default), or not any more.
///
/// # Panics
///
/// As [`maybe_open_context`].
///
/// # Cancel safety
///
/// As [`maybe_open_context`].
///
/// # Examples
///
/// See [`serve_default`]. A closure that captures something is refused:
///
/// ```compile_fail
/// use trionics_cache::maybe_open_default;
/// use trionics_errgroup::Failure;
/// use trionics_gather::Slot;
///
/// let host = String::from("db");
/// let connect = move |port: u16, slot: Slot<String>| {
///     let address = format!("{host}:{port}");
///     async move {
///         slot.provide(address).await;
///         Ok::<(), Failure>(())
///     }
/// };
/// # futures::executor::block_on(async {
/// maybe_open_default(connect, 80, async |_hit, _value| Ok(())).await.unwrap();
/// # });
/// ```
pub async fn maybe_open_default<F, A, T, Fut, R, B, BodyFut>(
    function: F,
    arguments: A,
    body: B,
) -> Result<R, Failure>
where
    F: Fn(A, Slot<T>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    A: Clone + fmt::Debug + Eq + Hash + Send + Sync + 'static,
    T: Send + Sync + 'static,
    B: FnOnce(bool, DefaultValue<T>) -> BodyFut,
    BodyFut: Future<Output = Result<R, Failure>>,
{
    let key = DefaultKey::new::<F>(false, arguments.clone());
    open(function, key, arguments, body).await
}

/// As [`maybe_open_default`], with a key of its own in place of the arguments.
///
/// Calls of the same function with equal keys share the resource of the first one's arguments.
///
/// # Errors
///
/// As [`maybe_open_default`].
///
/// # Panics
///
/// As [`maybe_open_default`].
///
/// # Cancel safety
///
/// As [`maybe_open_default`].
pub async fn maybe_open_default_keyed<F, K, A, T, Fut, R, B, BodyFut>(
    function: F,
    key: K,
    arguments: A,
    body: B,
) -> Result<R, Failure>
where
    F: Fn(A, Slot<T>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    K: fmt::Debug + Eq + Hash + Send + Sync + 'static,
    A: Send + 'static,
    T: Send + Sync + 'static,
    B: FnOnce(bool, DefaultValue<T>) -> BodyFut,
    BodyFut: Future<Output = Result<R, Failure>>,
{
    open(function, DefaultKey::new::<F>(true, key), arguments, body).await
}

async fn open<F, A, T, Fut, R, B, BodyFut>(
    function: F,
    key: DefaultKey,
    arguments: A,
    body: B,
) -> Result<R, Failure>
where
    F: Fn(A, Slot<T>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    A: Send + 'static,
    T: Send + Sync + 'static,
    B: FnOnce(bool, DefaultValue<T>) -> BodyFut,
    BodyFut: Future<Output = Result<R, Failure>>,
{
    let Some(cache) = installed() else {
        return Err(Failure::library(LibraryFailure::Closed {
            what: "the cache of the process (start `serve_default` in the root nursery)".into(),
        }));
    };
    let make = move || {
        acm(move |slot: Slot<AnyValue>| {
            let context = acm(move |slot: Slot<T>| function(arguments, slot));
            with_context(context, async move |value: T| {
                slot.provide(Box::new(value)).await;
                Ok(())
            })
        })
    };
    maybe_open_context(&cache, key, make, move |hit, value| {
        let value = DefaultValue {
            value,
            type_of_value: PhantomData,
        };
        body(hit, value)
    })
    .await
}

/// A value of the cache of the process, in the hands of a block. It dereferences to the value.
pub struct DefaultValue<T> {
    value: CacheValue<DefaultKey, AnyValue>,
    type_of_value: PhantomData<fn() -> T>,
}

impl<T: 'static> Deref for DefaultValue<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let value: &AnyValue = &self.value;
        (**value)
            .downcast_ref()
            .expect("a function provides values of one type")
    }
}

impl<T: fmt::Debug + 'static> fmt::Debug for DefaultValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DefaultValue").field(&**self).finish()
    }
}

/// A function's type, and what it is called with or the key that stands for that.
#[derive(Clone)]
struct DefaultKey {
    function: TypeId,
    name: &'static str,
    /// The key was given, and is not the arguments.
    is_given: bool,
    key: Arc<dyn AnyKey>,
}

impl DefaultKey {
    fn new<F: 'static>(
        is_given: bool,
        key: impl fmt::Debug + Eq + Hash + Send + Sync + 'static,
    ) -> Self {
        const {
            assert!(
                size_of::<F>() == 0,
                "the function must capture nothing: pass what it needs as arguments"
            );
        }
        Self {
            function: TypeId::of::<F>(),
            name: type_name::<F>(),
            is_given,
            key: Arc::new(key),
        }
    }
}

impl PartialEq for DefaultKey {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
            && self.is_given == other.is_given
            && self.key.is_same(&*other.key)
    }
}

impl Eq for DefaultKey {}

impl Hash for DefaultKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
        self.key.hash_into(state);
    }
}

impl fmt::Debug for DefaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", self.name, self.key)
    }
}

/// A key of whatever type.
trait AnyKey: Any + fmt::Debug + Send + Sync {
    fn is_same(&self, other: &dyn AnyKey) -> bool;
    fn hash_into(&self, state: &mut dyn Hasher);
}

impl<K: fmt::Debug + Eq + Hash + Send + Sync + 'static> AnyKey for K {
    fn is_same(&self, other: &dyn AnyKey) -> bool {
        let other: &dyn Any = other;
        other.downcast_ref::<K>().is_some_and(|other| self == other)
    }

    fn hash_into(&self, mut state: &mut dyn Hasher) {
        self.hash(&mut state);
    }
}
