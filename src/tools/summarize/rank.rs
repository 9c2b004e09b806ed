//! Which sentences say most of what the documents say.
//!
//! Each sentence is a vector of its words, weighted by how rare they are
//! (TF-IDF). The nearer it is to the mean of all, the more of the documents it
//! speaks for. What stands early counts a little more, what answers the query
//! much more. Sentences are then taken one by one, each as unlike those taken
//! as may be (maximal marginal relevance). The order of every sum is fixed, so
//! the same input gives the same choice on every machine.

use std::collections::HashMap;

use unicode_segmentation::UnicodeSegmentation as _;

use super::sentences::Sentence;

/// Sentences that are compared with one another; the best of all that there are.
const COMPARED: usize = 400;
/// Two sentences as alike as this say the same.
const SAME: f64 = 0.75;
/// What being wholly like one already taken costs.
const REPETITION: f64 = 0.5;

/// A sentence that was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    /// Which document, from 0.
    pub(super) document: usize,
    /// Which of its sentences, from 0.
    pub(super) sentence: usize,
    /// How well it speaks for the documents, from 0 to 1.
    pub(super) score: f64,
}

/// Words with their weights, by the words' numbers, of length 1.
type Vector = Vec<(usize, f64)>;

/// The best sentences, at most `most`, in the order of the documents. Each
/// document is quoted once before any is quoted again.
pub(super) fn choose(documents: &[Vec<Sentence>], query: &str, most: usize) -> Vec<Choice> {
    let mut words = Words::default();
    let counted: Vec<Vec<(usize, f64)>> =
        documents.iter().flatten().map(|sentence| words.count(&sentence.text)).collect();
    let rarity = words.rarity(&counted);
    let vectors: Vec<Vector> = counted.iter().map(|counts| unit(counts, &rarity)).collect();
    let scores = scores(documents, &counted, &vectors, &words.known(query), &rarity);

    let places = documents
        .iter()
        .enumerate()
        .flat_map(|(document, sentences)| (0..sentences.len()).map(move |sentence| (document, sentence)));
    let mut candidates: Vec<Candidate<'_>> = (places.zip(&vectors).zip(scores))
        .map(|(((document, sentence), vector), score)| {
            let choice = Choice { document, sentence, score };
            Candidate { choice, vector, likeness: 0.0 }
        })
        .collect();
    // Stable: of two alike the earlier one comes first.
    candidates.sort_by(|a, b| b.choice.score.total_cmp(&a.choice.score));
    let mut chosen = take(narrow(candidates, documents.len()), documents.len(), most);
    chosen.sort_by_key(|choice| (choice.document, choice.sentence));
    chosen
}

struct Candidate<'a> {
    choice: Choice,
    vector: &'a Vector,
    /// To the chosen sentence that it is most like.
    likeness: f64,
}

/// The best of each document and then the best of all, as many as are compared.
fn narrow(candidates: Vec<Candidate<'_>>, documents: usize) -> Vec<Candidate<'_>> {
    let mut seen = vec![false; documents];
    let mut left = COMPARED.saturating_sub(documents);
    let mut keep = |candidate: &Candidate<'_>| {
        let first = !std::mem::replace(&mut seen[candidate.choice.document], true);
        let room = left > 0;
        left -= usize::from(room && !first);
        first || room
    };
    candidates.into_iter().filter(|candidate| keep(candidate)).collect()
}

fn take(mut candidates: Vec<Candidate<'_>>, documents: usize, most: usize) -> Vec<Choice> {
    let mut chosen: Vec<Choice> = Vec::new();
    let mut quoted = vec![false; documents];
    while chosen.len() < most {
        candidates.retain(|candidate| candidate.likeness < SAME);
        let value = |candidate: &Candidate<'_>| {
            let new = f64::from(u8::from(!quoted[candidate.choice.document]));
            // Scores are at most 1, so a document not yet quoted always wins.
            2.0 * new + candidate.choice.score - REPETITION * candidate.likeness
        };
        let mut best: Option<(usize, f64)> = None;
        for (at, candidate) in candidates.iter().enumerate() {
            let value = value(candidate);
            if best.is_none_or(|(_, most)| value > most) {
                best = Some((at, value));
            }
        }
        let Some((at, _)) = best else { break };
        let taken = candidates.remove(at);
        for candidate in &mut candidates {
            candidate.likeness = candidate.likeness.max(likeness(taken.vector, candidate.vector));
        }
        quoted[taken.choice.document] = true;
        chosen.push(taken.choice);
    }
    chosen
}

fn scores(
    documents: &[Vec<Sentence>],
    counted: &[Vec<(usize, f64)>],
    vectors: &[Vector],
    query: &[usize],
    rarity: &[f64],
) -> Vec<f64> {
    let mut mean = vec![0.0; rarity.len()];
    for (word, weight) in vectors.iter().flatten() {
        mean[*word] += weight;
    }
    // To all others: without its own part in the sum.
    let near = |vector: &Vector| vector.iter().map(|(word, weight)| weight * (mean[*word] - weight)).sum();
    let near: Vec<f64> = vectors.iter().map(near).collect();
    let nearest = near.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let asked: f64 = query.iter().map(|word| rarity[*word]).sum();
    let position = documents.iter().flat_map(|sentences| (0..sentences.len()).map(early));
    let sentences = documents.iter().flatten();
    (near.iter().zip(position).zip(sentences).zip(counted))
        .map(|(((near, early), sentence), counts)| {
            let central = (near / nearest).clamp(0.0, 1.0);
            let value = if asked > 0.0 {
                let found = |word: &&usize| counts.binary_search_by_key(*word, |(known, _)| *known).is_ok();
                let answered: f64 = query.iter().filter(found).map(|word| rarity[*word]).sum();
                0.35 * central + 0.15 * early + 0.5 * answered / asked
            } else {
                0.75 * central + 0.25 * early
            };
            value * form(&sentence.text, counts.iter().map(|(_, count)| count).sum())
        })
        .collect()
}

/// What comes first in a document tends to say what it is about.
fn early(sentence: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the number of a sentence is far below 2^52")]
    let number = sentence as f64;
    1.0 / (1.0 + number).sqrt()
}

/// Scraps, endless sentences and what does not end as a sentence count less.
fn form(text: &str, words: f64) -> f64 {
    let length = if words < 4.0 {
        0.3
    } else if !(7.0..=60.0).contains(&words) {
        0.7
    } else {
        1.0
    };
    let last = text.trim_end_matches(|c: char| "\"'”’»)]*_".contains(c)).chars().next_back();
    let whole = last.is_some_and(|c| ".!?…。！？।؟".contains(c));
    if whole { length } else { length * 0.6 }
}

/// The words of all sentences, numbered.
#[derive(Default)]
struct Words(HashMap<String, usize>);

impl Words {
    /// The words of a sentence by their numbers, each with how often it is there.
    fn count(&mut self, text: &str) -> Vec<(usize, f64)> {
        let mut numbers: Vec<usize> = Vec::new();
        for word in text.unicode_words() {
            let next = self.0.len();
            numbers.push(*self.0.entry(word.to_lowercase()).or_insert(next));
        }
        numbers.sort_unstable();
        let mut counts: Vec<(usize, f64)> = Vec::new();
        for number in numbers {
            match counts.last_mut() {
                Some((last, count)) if *last == number => *count += 1.0,
                _ => counts.push((number, 1.0)),
            }
        }
        counts
    }

    /// The words of a query that the sentences have, each once.
    fn known(&self, query: &str) -> Vec<usize> {
        let mut known: Vec<usize> =
            query.unicode_words().filter_map(|word| self.0.get(&word.to_lowercase()).copied()).collect();
        known.sort_unstable();
        known.dedup();
        known
    }

    /// Of each word, how much it tells: nothing when it is in every sentence.
    fn rarity(&self, counted: &[Vec<(usize, f64)>]) -> Vec<f64> {
        let mut sentences = vec![0.0; self.0.len()];
        for (word, _) in counted.iter().flatten() {
            sentences[*word] += 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "the number of sentences is far below 2^52")]
        let all = counted.len() as f64;
        sentences.iter().map(|with: &f64| ((all + 1.0) / with.max(1.0)).ln()).collect()
    }
}

fn unit(counts: &[(usize, f64)], rarity: &[f64]) -> Vector {
    let weighted: Vector = counts.iter().map(|(word, count)| (*word, count * rarity[*word])).collect();
    let length = weighted.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
    if length <= 0.0 {
        return Vector::new();
    }
    weighted.into_iter().map(|(word, weight)| (word, weight / length)).collect()
}

/// From 0, no word in common, to 1.
fn likeness(a: &[(usize, f64)], b: &[(usize, f64)]) -> f64 {
    let (mut a, mut b, mut sum) = (a, b, 0.0);
    while let ([(left, x), rest_of_a @ ..], [(right, y), rest_of_b @ ..]) = (a, b) {
        if left == right {
            sum += x * y;
        }
        if left <= right {
            a = rest_of_a;
        }
        if right <= left {
            b = rest_of_b;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::sentences::sentences;
    use super::*;

    fn chosen(documents: &[&str], query: &str, most: usize) -> Vec<String> {
        let documents: Vec<_> = documents.iter().map(|text| sentences(text)).collect();
        let choices = choose(&documents, query, most);
        choices.iter().map(|choice| documents[choice.document][choice.sentence].text.clone()).collect()
    }

    const HERONS: &str = "The heron stands still in shallow water for a long time. \
        Our office is closed on the second Friday of May. \
        When a fish comes near, the heron in the water strikes at once. \
        The heron stands still in the shallow water for a long time! \
        Parking in front of the building costs two crowns.";

    #[test]
    fn what_the_text_is_about_wins_and_is_said_once() {
        let two = chosen(&[HERONS], "", 2);
        assert_eq!(
            two,
            [
                "The heron stands still in shallow water for a long time.",
                "When a fish comes near, the heron in the water strikes at once."
            ]
        );
    }

    #[test]
    fn a_query_turns_the_choice() {
        assert_eq!(
            chosen(&[HERONS], "What does parking cost?", 1),
            ["Parking in front of the building costs two crowns."]
        );
        assert_eq!(chosen(&[HERONS], "zebra", 1), chosen(&[HERONS], "", 1), "a word that is nowhere changes nothing");
    }

    #[test]
    fn each_document_is_quoted_before_any_is_quoted_again() {
        let other = "A train left the station early this morning.";
        assert_eq!(chosen(&[HERONS, other], "heron fish water", 2).len(), 2);
        assert_eq!(chosen(&[HERONS, other], "heron fish water", 2)[1], other);
    }

    #[test]
    fn words_that_are_everywhere_do_not_break_it() {
        assert_eq!(chosen(&["one.", "one.", "one."], "one", 5).len(), 1);
        assert_eq!(chosen(&[""], "x", 5), Vec::<String>::new());
        assert_eq!(chosen(&[], "x", 5), Vec::<String>::new());
    }
}
