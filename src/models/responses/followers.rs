//! Who waits for news of which response. What the news is stands in the
//! database, so only that there is some has to be told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Everyone who follows.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<HashMap<i64, watch::Sender<()>>>);

/// News of one response from now on.
pub(super) struct Following {
    news: watch::Receiver<()>,
    all: Arc<Followers>,
    no: i64,
}

impl Followers {
    fn all(&self) -> MutexGuard<'_, HashMap<i64, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to follow; what is written from now on is told.
    pub fn follow(self: &Arc<Self>, no: i64) -> Following {
        let news = self.all().entry(no).or_default().subscribe();
        Following { news, all: self.clone(), no }
    }

    /// Something of that response has come to the disk.
    pub fn tell(&self, no: i64) {
        if let Some(sender) = self.all().get(&no) {
            sender.send_replace(());
        }
    }
}

impl Following {
    /// Waits for news since the last that was heard.
    pub async fn news(&mut self) {
        // Its other end is there as long as this one.
        let _ = self.news.changed().await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut all = self.all.all();
        if all.get(&self.no).is_some_and(|sender| sender.receiver_count() <= 1) {
            all.remove(&self.no);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_is_heard_and_nothing_is_left_of_who_has_gone() {
        let followers = Arc::new(Followers::default());
        let mut one = followers.follow(7);
        let two = followers.follow(7);
        followers.tell(7);
        followers.tell(8);
        one.news().await;
        assert!(!one.news.has_changed().expect("it is there"), "it is heard once");
        drop(two);
        assert_eq!(followers.all().len(), 1);
        drop(one);
        assert!(followers.all().is_empty());
    }
}
