//! Calls of tools, out of the pieces that providers send.

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::super::merge::{merge_fields, size};
use super::item::{Call, Item, What};
use super::read::Piece;
use super::{ChatEvents, Event};

/// Bytes of arguments that are looked through for whether they are complete.
const LOOKED_THROUGH: usize = 64 << 10;

/// Where a piece belongs.
enum Belongs {
    /// To a call that has its place among the items.
    Item(usize),
    /// To one that has no name yet.
    Unnamed(usize),
    New,
}

impl ChatEvents {
    /// Calls of a part, or all of them of a whole answer.
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

    /// Pieces without a number are told apart by their place, and those of one number
    /// by their ids. What has neither begins a new call where it has a name and the
    /// call before is complete.
    fn belongs(&self, place: u64, piece: &Piece) -> Belongs {
        let index = piece.index.unwrap_or(place);
        let same = |call: &Call| {
            let agrees = piece.id.is_empty() || call.id.is_empty() || call.id == piece.id;
            let is_told = piece.index.is_some() || (!piece.id.is_empty() && call.id == piece.id);
            let begins = !is_told && !piece.name.is_empty() && !call.name.is_empty() && is_complete(&call.arguments);
            call.index == index && agrees && !begins
        };
        let known = self.items.iter().rposition(|item| matches!(&item.what, What::Call(call) if same(call)));
        let unnamed = || self.unnamed.iter().rposition(same);
        known.map(Belongs::Item).or_else(|| unnamed().map(Belongs::Unnamed)).unwrap_or(Belongs::New)
    }

    /// A call with its name takes its place; what was before it is over.
    pub(super) fn add_call(&mut self, mut call: Call, out: &mut Vec<Event>) {
        self.close_thought(out);
        if let Some(message) = self.message.take() {
            self.close(message, "completed", out);
        }
        let place = self.items.len();
        let is_taken = |id: &str| self.items.iter().any(|it| matches!(&it.what, What::Call(call) if call.shown == id));
        // Without one of its own its output could not say which call it is of.
        call.shown =
            if call.id.is_empty() || is_taken(&call.id) { self.head.id.part("call", place) } else { call.id.clone() };
        call.is_custom = self.shape.custom.contains(&call.name);
        let arguments = std::mem::take(&mut call.arguments);
        self.items.push(Item::new(What::Call(call)));
        self.item_added(place, out);
        self.add_arguments(place, &arguments, out);
    }

    /// Calls whose name has not come: they get that of the only tool. One that says
    /// nothing at all is none.
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
        // What a custom tool is given can be read only when all of it has come.
        if !call.is_custom && !delta.is_empty() {
            let fields = json!({ "item_id": self.item_id(place), "output_index": place, "delta": delta });
            self.send("response.function_call_arguments.delta", fields, out);
        }
    }

    /// Ends a call's arguments. Those of a whole call are JSON also where there are none.
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
