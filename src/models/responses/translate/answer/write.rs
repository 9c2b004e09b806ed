//! The events of texts and items.

use serde_json::{Value, json};

use super::item::{Item, Part, Thought, What};
use super::{ChatEvents, Event};

impl ChatEvents {
    pub(super) fn send(&mut self, kind: &'static str, fields: Value, out: &mut Vec<Event>) {
        out.push(Event::new(self.next, kind, fields));
        self.next += 1;
    }

    pub(super) fn item_id(&self, place: usize) -> String {
        self.head.id.part(self.items[place].prefix(), place)
    }

    pub(super) fn item_added(&mut self, place: usize, out: &mut Vec<Event>) {
        let item = self.item(place, "in_progress");
        self.send("response.output_item.added", json!({ "output_index": place, "item": item }), out);
    }

    fn add(&mut self, what: What, out: &mut Vec<Event>) -> usize {
        self.items.push(Item::new(what));
        let place = self.items.len() - 1;
        self.item_added(place, out);
        place
    }

    /// Reasoning text.
    pub(super) fn think(&mut self, name: Option<&'static str>, text: &str, out: &mut Vec<Event>) {
        self.bytes += text.len();
        let place = match self.thought {
            Some(place) => place,
            None => {
                let ends = self.items.iter().any(|item| !matches!(item.what, What::Thought(_)));
                let place = self.add(What::Thought(Thought { name, ends, ..Thought::default() }), out);
                *self.thought.insert(place)
            }
        };
        let (has_halves, is_summary) = (self.has_halves, self.shape.is_summary);
        let What::Thought(thought) = &mut self.items[place].what else { return };
        if !thought.has_begun {
            let part = thought.part(is_summary);
            (thought.has_begun, thought.is_open) = (true, true);
            let kind = if is_summary { "response.reasoning_summary_part.added" } else { "response.content_part.added" };
            self.send(kind, self.in_thought(place, &[("part", part)]), out);
        }
        let What::Thought(thought) = &mut self.items[place].what else { return };
        let delta = thought.halves.join(text, has_halves).into_owned();
        thought.text.push_str(&delta);
        if !delta.is_empty() {
            self.thought_delta(place, delta, out);
        }
    }

    fn thought_delta(&mut self, place: usize, delta: String, out: &mut Vec<Event>) {
        let is_summary = self.shape.is_summary;
        let kind = if is_summary { "response.reasoning_summary_text.delta" } else { "response.reasoning_text.delta" };
        self.send(kind, self.in_thought(place, &[("delta", delta.into())]), out);
    }

    /// The fields of an event on reasoning text.
    fn in_thought(&self, place: usize, fields: &[(&str, Value)]) -> Value {
        let index = if self.shape.is_summary { "summary_index" } else { "content_index" };
        let mut all = json!({ "item_id": self.item_id(place), "output_index": place, index: 0 });
        for (name, value) in fields {
            all[*name] = value.clone();
        }
        all
    }

    /// The reasoning is over: text or a call follows.
    pub(super) fn close_thought(&mut self, out: &mut Vec<Event>) {
        let Some(place) = self.thought.take() else { return };
        self.close_thought_text(place, out);
        // What is sealed in the item is only known at the end.
        if !self.shape.is_sealed {
            self.close(place, "completed", out);
        }
    }

    fn close_thought_text(&mut self, place: usize, out: &mut Vec<Event>) {
        let is_summary = self.shape.is_summary;
        let What::Thought(thought) = &mut self.items[place].what else { return };
        if !std::mem::take(&mut thought.is_open) {
            return;
        }
        let last: String = thought.halves.rest().into_iter().collect();
        thought.text.push_str(&last);
        let (text, part) = (thought.text.clone(), thought.part(is_summary));
        if !last.is_empty() {
            self.thought_delta(place, last, out);
        }
        let (said, done) = if is_summary {
            ("response.reasoning_summary_text.done", "response.reasoning_summary_part.done")
        } else {
            ("response.reasoning_text.done", "response.content_part.done")
        };
        self.send(said, self.in_thought(place, &[("text", text.into())]), out);
        self.send(done, self.in_thought(place, &[("part", part)]), out);
    }

    /// Text of the message, or of the refusal to write one.
    pub(super) fn text(&mut self, is_refusal: bool, text: &str, logprobs: Vec<Value>, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        self.bytes += text.len();
        self.close_thought(out);
        let (place, index) = self.open_part(is_refusal, out);
        let has_halves = self.has_halves;
        let What::Message(parts) = &mut self.items[place].what else { return };
        let part = &mut parts[index];
        let delta = part.halves.join(text, has_halves).into_owned();
        part.text.push_str(&delta);
        part.logprobs.extend(logprobs.iter().cloned());
        if !delta.is_empty() || !logprobs.is_empty() {
            self.text_delta((place, index), is_refusal, &delta, logprobs, out);
        }
    }

    fn text_delta(
        &mut self,
        (place, index): (usize, usize),
        is_refusal: bool,
        delta: &str,
        logprobs: Vec<Value>,
        out: &mut Vec<Event>,
    ) {
        let id = self.item_id(place);
        let mut fields = json!({ "item_id": id, "output_index": place, "content_index": index, "delta": delta });
        if is_refusal {
            self.send("response.refusal.delta", fields, out);
        } else {
            fields["logprobs"] = logprobs.into();
            self.send("response.output_text.delta", fields, out);
        }
    }

    /// The places of the message and of its part that such text goes to.
    fn open_part(&mut self, is_refusal: bool, out: &mut Vec<Event>) -> (usize, usize) {
        let place = match self.message {
            Some(place) => place,
            None => {
                let place = self.add(What::Message(Vec::new()), out);
                *self.message.insert(place)
            }
        };
        let parts = self.parts(place);
        if let Some(open) = parts.iter().rposition(|part| part.is_open) {
            if parts[open].is_refusal == is_refusal {
                return (place, open);
            }
            self.close_part(place, open, out);
        }
        let part = Part::new(is_refusal);
        let (json, index) = (part.json(), self.parts(place).len());
        if let What::Message(parts) = &mut self.items[place].what {
            parts.push(part);
        }
        let fields =
            json!({ "item_id": self.item_id(place), "output_index": place, "content_index": index, "part": json });
        self.send("response.content_part.added", fields, out);
        (place, index)
    }

    fn parts(&self, place: usize) -> &[Part] {
        match &self.items[place].what {
            What::Message(parts) => parts,
            _ => &[],
        }
    }

    fn close_part(&mut self, place: usize, index: usize, out: &mut Vec<Event>) {
        let id = self.item_id(place);
        let What::Message(parts) = &mut self.items[place].what else { return };
        let part = &mut parts[index];
        if !std::mem::take(&mut part.is_open) {
            return;
        }
        let last: String = part.halves.rest().into_iter().collect();
        part.text.push_str(&last);
        let (is_refusal, text, logprobs, json) =
            (part.is_refusal, part.text.clone(), part.logprobs.clone(), part.json());
        if !last.is_empty() {
            self.text_delta((place, index), is_refusal, &last, Vec::new(), out);
        }
        let at = json!({ "item_id": id, "output_index": place, "content_index": index });
        let mut said = at.clone();
        let mut done = at;
        done["part"] = json;
        if is_refusal {
            said["refusal"] = text.into();
            self.send("response.refusal.done", said, out);
        } else {
            said["text"] = text.into();
            said["logprobs"] = logprobs.into();
            self.send("response.output_text.done", said, out);
        }
        self.send("response.content_part.done", done, out);
    }

    /// Ends an item that has not ended before.
    pub(super) fn close(&mut self, place: usize, status: &str, out: &mut Vec<Event>) {
        if self.items[place].is_done {
            return;
        }
        match &self.items[place].what {
            What::Call(_) => self.close_arguments(place, status == "completed", out),
            What::Message(parts) => {
                for index in 0..parts.len() {
                    self.close_part(place, index, out);
                }
            }
            What::Thought(_) => self.close_thought_text(place, out),
        }
        self.items[place].is_done = true;
        let item = self.item(place, status);
        self.send("response.output_item.done", json!({ "output_index": place, "item": item }), out);
    }
}
