//! What can be seen of a broadcast from outside.

use futures_core::Stream;

use crate::{channel::Channel, receiver::BroadcastReceiver};

/// A snapshot of a broadcast; made by [`BroadcastReceiver::statistics`].
///
/// While other threads go on receiving, its figures may belong to slightly different moments.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// The number of values kept for slow subscribers.
    pub max_buffer_size: usize,
    /// The open subscriptions, in no particular order.
    pub subscribers: Vec<SubscriberStatistics>,
    /// How many of them wait for a value.
    pub n_waiting: usize,
    /// How many values were taken from the source so far.
    pub n_pulls: u64,
    /// The [`id`](BroadcastReceiver::id) of the subscription that is inside the source's poll right now.
    ///
    /// None while all wait: nobody waits in the source on behalf of others.
    pub puller: Option<u64>,
}

/// What can be seen of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriberStatistics {
    /// The subscription's [`id`](BroadcastReceiver::id).
    pub id: u64,
    /// How many published values it has neither received nor been told to have lost; may exceed the window.
    pub backlog: u64,
    /// How many values it has been told to have lost so far.
    pub n_lost: u64,
    /// Whether it waits for a value.
    pub is_waiting: bool,
}

impl<S: Stream> BroadcastReceiver<S> {
    /// Takes a snapshot of the broadcast.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures::{executor::block_on, stream};
    /// use trionics_broadcast::broadcast_receiver;
    ///
    /// let mut fast = broadcast_receiver(stream::iter(0..10), 4)?;
    /// let slow = fast.subscribe();
    /// block_on(fast.recv());
    /// let statistics = fast.statistics();
    /// assert_eq!(statistics.n_pulls, 1);
    /// assert_eq!(statistics.subscribers.len(), 2);
    /// let of_slow = statistics.subscribers.iter().find(|of| of.id == slow.id());
    /// assert_eq!(of_slow.unwrap().backlog, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn statistics(&self) -> Statistics {
        let channel = &*self.channel;
        let mut waiting = channel.signal.waiting.owners();
        waiting.sort_unstable();
        let published = channel.published();
        let subscribers = subscribers(channel, |id, cursor, n_lost| SubscriberStatistics {
            id,
            backlog: published.saturating_sub(cursor),
            n_lost,
            is_waiting: waiting.binary_search(&id).is_ok(),
        });
        Statistics {
            max_buffer_size: self.max_buffer_size(),
            subscribers,
            n_waiting: waiting.len(),
            n_pulls: channel.pulls(),
            puller: channel.puller(),
        }
    }
}

fn subscribers<S: Stream>(
    channel: &Channel<S>,
    describe: impl Fn(u64, u64, u64) -> SubscriberStatistics,
) -> Vec<SubscriberStatistics> {
    let table = channel.table();
    table
        .members
        .iter()
        .map(|member| describe(member.id, member.cursor(), member.lost()))
        .collect()
}
