//! Tool calls, put together from the deltas that providers send.

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::super::merge::{merge_fields, size};
use super::item::{Call, Item, What};
use super::read::Piece;
use super::{ChatEvents, Event};

/// Arguments that are longer are not checked for being complete.
const LOOKED_THROUGH: usize = 64 << 10;

/// The call that a delta belongs to.
enum Belongs {
    /// One that is an item already.
    Item(usize),
    /// One without a name.
    Unnamed(usize),
    New,
}

impl ChatEvents {
    /// The calls of a delta, or of a whole answer.
    pub(super) fn calls(&mut self, calls: &Value, is_whole: bool, out: &mut Vec<Event>) {
        let list = calls.as_array().map_or_else(|| std::slice::from_ref(calls), Vec::as_slice);
        for (place, piece) in list.iter().enumerate().filter(|(_, piece)| piece.is_object()) {
            self.call(place as u64, Piece::read(piece), is_whole, out);
        }
    }

    fn call(&mut self, place: u64, piece: Piece, is_whole: bool, out: &mut Vec<Event>) {
        self.bytes += piece.arguments.len() + piece.rest.values().map(size).sum::<usize>();
        let belongs = if is_whole { Belongs::New } else { self.belongs(place, &piece) };
        let mut call = match belongs {
            Belongs::Item(known) => {
                if let What::Call(call) = &mut self.items[known].what {
                    merge_fields(&mut call.rest, piece.rest);
                    if call.id.is_empty() {
                        call.id = piece.id;
                    }
                }
                return self.add_arguments(known, &piece.arguments, out);
            }
            Belongs::Unnamed(known) => self.unnamed.remove(known),
            Belongs::New => {
                Call { index: if is_whole { place } else { piece.index.unwrap_or(place) }, ..Call::default() }
            }
        };
        call.name.push_str(&piece.name);
        call.arguments.push_str(&piece.arguments);
        call.is_plain |= piece.is_plain;
        merge_fields(&mut call.rest, piece.rest);
        if call.id.is_empty() {
            call.id = piece.id;
        }
        if call.name.is_empty() {
            self.unnamed.push(call);
        } else {
            self.add_call(call, out);
        }
    }

    /// Deltas without `index` are matched by their position, those with the same index by
    /// their ids. A delta with neither starts a new call if it has a name and the call
    /// before is complete.
    fn belongs(&self, place: u64, piece: &Piece) -> Belongs {
        let index = piece.index.unwrap_or(place);
        let same = |call: &Call| {
            let agrees = piece.id.is_empty() || call.id.is_empty() || call.id == piece.id;
            let is_certain = piece.index.is_some() || (!piece.id.is_empty() && call.id == piece.id);
            let begins = !is_certain && !piece.name.is_empty() && !call.name.is_empty() && is_complete(&call.arguments);
            call.index == index && agrees && !begins
        };
        let known = self.items.iter().rposition(|item| matches!(&item.what, What::Call(call) if same(call)));
        let unnamed = || self.unnamed.iter().rposition(same);
        known.map(Belongs::Item).or_else(|| unnamed().map(Belongs::Unnamed)).unwrap_or(Belongs::New)
    }

    /// Adds a call that has its name; what came before it is complete.
    pub(super) fn add_call(&mut self, mut call: Call, out: &mut Vec<Event>) {
        self.close_thought(out);
        if let Some(message) = self.message.take() {
            self.close(message, "completed", out);
        }
        let place = self.items.len();
        let is_taken = |id: &str| self.items.iter().any(|it| matches!(&it.what, What::Call(call) if call.shown == id));
        // Each call needs an id of its own, which its output refers to.
        call.shown =
            if call.id.is_empty() || is_taken(&call.id) { self.head.id.part("call", place) } else { call.id.clone() };
        call.is_custom = self.shape.custom.contains(&call.name);
        let arguments = std::mem::take(&mut call.arguments);
        self.items.push(Item::new(What::Call(call)));
        self.item_added(place, out);
        self.add_arguments(place, &arguments, out);
    }

    /// Calls whose name never came get that of the only tool. Empty ones are dropped.
    pub(super) fn name_calls(&mut self, out: &mut Vec<Event>) {
        for mut call in std::mem::take(&mut self.unnamed) {
            if call.id.is_empty() && call.arguments.is_empty() {
                continue;
            }
            call.name = self.shape.only_tool.clone().unwrap_or_default();
            self.add_call(call, out);
        }
    }

    fn add_arguments(&mut self, place: usize, arguments: &str, out: &mut Vec<Event>) {
        let has_halves = self.has_halves;
        let What::Call(call) = &mut self.items[place].what else { return };
        let delta = call.halves.join(arguments, has_halves).into_owned();
        call.arguments.push_str(&delta);
        // The input of a custom tool can only be read from complete arguments.
        if !call.is_custom && !delta.is_empty() {
            let fields = json!({ "item_id": self.item_id(place), "output_index": place, "delta": delta });
            self.send("response.function_call_arguments.delta", fields, out);
        }
    }

    /// Ends a call's arguments. Empty arguments of a complete call become `{}`.
    pub(super) fn close_arguments(&mut self, place: usize, is_whole: bool, out: &mut Vec<Event>) {
        let id = self.item_id(place);
        let What::Call(call) = &mut self.items[place].what else { return };
        let mut last: String = call.halves.rest().into_iter().collect();
        if is_whole && !call.is_custom && call.arguments.trim().is_empty() {
            last.push_str("{}");
        }
        call.arguments.push_str(&last);
        let at = |name: &str, text: &str| json!({ "item_id": id, "output_index": place, name: text });
        if call.is_custom {
            let input = call.input();
            if !input.is_empty() {
                self.send("response.custom_tool_call_input.delta", at("delta", &input), out);
            }
            self.send("response.custom_tool_call_input.done", at("input", &input), out);
            return;
        }
        let mut done = at("arguments", &call.arguments);
        done["name"] = call.name.as_str().into();
        if !last.is_empty() {
            self.send("response.function_call_arguments.delta", at("delta", &last), out);
        }
        self.send("response.function_call_arguments.done", done, out);
    }
}

fn is_complete(arguments: &str) -> bool {
    arguments.len() <= LOOKED_THROUGH && serde_json::from_str::<IgnoredAny>(arguments).is_ok()
}
