//! What an answer says of the call that it came from.

use std::time::Duration;

use actix_web::HttpResponseBuilder;
use actix_web::http::header::{HeaderName, HeaderValue};

use super::Receipt;

/// The headers of [`headers`], as OpenAPI names them.
pub const NAMES: [&str; 6] =
    ["X-Cost-Usd", "X-Budget-Remaining-Usd", "X-Model-Used", "X-Fallbacks", "X-Agentd-Overhead-Ms", "Age"];

/// Adds what is known of a call: `X-Cost-Usd` where it has ended, `X-Model-Used`, `X-Fallbacks`,
/// `X-Agentd-Overhead-Ms`, `X-Budget-Remaining-Usd` where a budget is limited, and `Age` where the answer was given
/// before.
pub fn headers(answer: &mut HttpResponseBuilder, receipt: &Receipt) {
    let mut set = |name: &'static str, text: &str| {
        // A provider can name its model as it likes; what is no header is left out.
        if let Ok(value) = HeaderValue::from_str(text) {
            answer.insert_header((HeaderName::from_static(name), value));
        }
    };
    if let Some(cost) = receipt.cost {
        set("x-cost-usd", &cost.to_string());
    }
    if let Some(left) = receipt.left {
        set("x-budget-remaining-usd", &left.to_string());
    }
    set("x-model-used", &receipt.model);
    set("x-fallbacks", &receipt.fallbacks.to_string());
    set("x-agentd-overhead-ms", &milliseconds(receipt.overhead));
    if let Some(age) = receipt.age {
        set("age", &age.as_secs().to_string());
    }
}

/// Milliseconds, exact to the microsecond.
fn milliseconds(span: Duration) -> String {
    format!("{}.{:03}", span.as_millis(), span.subsec_micros() % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Usd;
    use actix_web::HttpResponse;

    #[test]
    fn an_answer_says_what_it_cost() {
        let receipt = Receipt {
            cost: Some(Usd::from_nano(1_500)),
            model: "mødel\n".into(),
            provider: "p".into(),
            fallbacks: 1,
            left: None,
            overhead: Duration::from_micros(1_042),
            reduced: false,
            age: None,
        };
        let told = |receipt: &Receipt| {
            let mut answer = HttpResponse::Ok();
            headers(&mut answer, receipt);
            let answer = answer.finish();
            let of = |name: &&str| answer.headers().get(*name).and_then(|value| value.to_str().ok().map(str::to_owned));
            (answer.status().as_u16(), NAMES.iter().map(of).collect::<Vec<_>>())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(told(&receipt), (200, vec![some("0.0000015"), None, None, some("1"), some("1.042"), None]));
        let age = Some(Duration::from_millis(61_900));
        let receipt = Receipt { left: Some(Usd::from_nano(0)), model: "gpt-4o".into(), age, ..receipt };
        let told = told(&receipt).1;
        assert_eq!((&told[1..3], &told[5]), (&[some("0"), some("gpt-4o")][..], &some("61")));
    }
}
