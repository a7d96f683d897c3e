//! The rooms: one per name, opened by its first member, torn down after its last.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{SinkExt, channel::mpsc};
use trionics::prelude::*;

use crate::{journal::Journal, protocol::Notice};

/// How many lines a room keeps for its slow members.
pub(crate) const WINDOW: usize = 64;

/// How many lines can have been said and heard by nobody yet; who says more has to wait.
const QUEUE: usize = 16;

/// A line as it goes to all members.
pub(crate) type Line = Arc<str>;

/// All the rooms that are open, by name.
pub(crate) type Rooms = ContextCache<String, Room>;

/// What the members of a room hear.
pub(crate) type Ear = BroadcastReceiver<mpsc::Receiver<Line>>;

/// A queue for those who speak, with a broadcast behind it for those who listen.
pub(crate) struct Room {
    name: String,
    mouth: mpsc::Sender<Line>,
    ear: Ear,
    names: Names,
}

/// The names that are taken in a room.
type Names = Arc<Mutex<HashSet<String>>>;

/// Opens a room, lends it to its members, and closes it after the last.
pub(crate) async fn open_room(
    name: String,
    journal: Journal,
    slot: Slot<Room>,
) -> Result<(), Failure> {
    journal.write(format!("room {name} opened")).await?;
    let (mouth, said) = mpsc::channel(QUEUE);
    let ear = broadcast_receiver(said, WINDOW)?;
    slot.provide(Room {
        name: name.clone(),
        mouth,
        ear,
        names: Names::default(),
    })
    .await;
    journal.write(format!("room {name} closed")).await?;
    Ok(())
}

impl Room {
    /// Takes somebody in, and tells everybody; gives `None` if the name is taken.
    pub(crate) fn enter(&self, name: &str) -> Option<(Member, Ear)> {
        if !lock(&self.names).insert(name.to_owned()) {
            return None;
        }
        let ear = self.ear.subscribe(); // before the announcement, so that it hears its own
        let mut member = Member {
            room: self.name.clone(),
            name: name.to_owned(),
            mouth: self.mouth.clone(),
            last_word: self.mouth.clone(),
            names: Arc::clone(&self.names),
        };
        let joined = Notice::Joined {
            room: self.name.clone(),
            name: name.to_owned(),
        };
        announce(&mut member.mouth, joined);
        Some((member, ear))
    }
}

/// Somebody in a room. When it is dropped, those who are still there are told.
pub(crate) struct Member {
    room: String,
    name: String,
    mouth: mpsc::Sender<Line>,
    /// Kept for the end, so that the last word does not have to wait.
    last_word: mpsc::Sender<Line>,
    names: Names,
}

impl Member {
    /// Says something to everybody, this member included. Waits while nobody listens.
    pub(crate) async fn say(&mut self, text: String) -> Result<(), Failure> {
        let said = Notice::Said {
            room: self.room.clone(),
            name: self.name.clone(),
            text,
        };
        self.mouth.send(said.to_string().into()).await?;
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        lock(&self.names).remove(&self.name);
        let parted = Notice::Parted {
            room: self.room.clone(),
            name: self.name.clone(),
        };
        announce(&mut self.last_word, parted);
    }
}

/// Says the first thing that is said through a mouth.
///
/// The queue keeps a place of its own for each of its senders, so that there is always room for it.
/// It can only fail if the room is gone; then there is nobody to tell.
fn announce(mouth: &mut mpsc::Sender<Line>, notice: Notice) {
    let announced = mouth.try_send(notice.to_string().into());
    debug_assert!(announced.is_ok() || mouth.is_closed(), "{announced:?}");
}

fn lock(names: &Names) -> MutexGuard<'_, HashSet<String>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}
