//! `Send`, `Sync` and `Unpin` of every public type and future, checked by the compiler.

use std::{
    fmt::Debug,
    future::{Future, Ready},
};

use trionics_cache::{
    CacheOptions, CacheValue, ContextCache, DefaultValue, FastHash, KeySlot, Lease, LeaseEnd, Open,
    Statistics, WhenFull, maybe_open_context,
};
use trionics_errgroup::Failure;
use trionics_gather::{Acm, Slot, acm};

type Key = String;
type Value = u32;

fn is_send<T: Send>(_: &T) {}
fn has<T: Send + Sync + Unpin + Debug>() {}

#[test]
fn types_may_go_to_other_threads() {
    has::<ContextCache<Key, Value>>();
    has::<CacheOptions<Key, Value>>();
    has::<Lease<Key, Value>>();
    has::<CacheValue<Key, Value>>();
    has::<KeySlot<Key, Value>>();
    has::<DefaultValue<Value>>();
    has::<FastHash>();
    has::<LeaseEnd>();
    has::<Statistics>();
    has::<WhenFull>();
}

#[test]
fn futures_may_go_to_other_threads() {
    type Run = fn(Slot<Value>) -> Ready<Result<(), Failure>>;
    fn make() -> Acm<Value, Run> {
        acm(|_slot| std::future::ready(Ok(())))
    }
    fn is_unpin<T: Unpin>(_: &T) {}
    fn is_static<T: 'static>(_: &T) {}
    let cache: ContextCache<Key, Value> = ContextCache::new();
    let open: Open<'_, _, _, _> = cache.open(Key::new(), make);
    is_send(&open);
    is_unpin(&open);
    let key = Key::new();
    is_send(&cache.peek(&key));
    is_send(&cache.refresh(Key::new(), make));
    is_send(&cache.slot(Key::new()).open(make));
    let service = cache.serve();
    is_send(&service);
    is_static(&service);
    let block = maybe_open_context(&cache, Key::new(), make, async |_hit, _value| Ok(()));
    is_send(&block);
    is_static(&block);
    fn closing(lease: Lease<Key, Value>) -> impl Future + Send {
        lease.close()
    }
    let _: fn(Lease<Key, Value>) -> _ = closing;
}
