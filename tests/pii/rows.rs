//! Cards that stand in a row with other numbers.
use std::sync::Arc;

use sluice::guard::pii::{Pii, Settings};

use super::{found, masking, same_at_each_cut, streamed};

const VISA: &str = "4111 1111 1111 1111";
const MASTER: &str = "5500 0000 0000 0004";

fn rows() -> Vec<(String, Vec<String>)> {
    let (visa, master) = (format!("card {VISA}"), format!("card {MASTER}"));
    let dashed = "4111-1111-1111-1111";
    vec![
        (format!("pay with {VISA} {MASTER} please"), vec![visa.clone(), master.clone()]),
        (format!("{VISA} {MASTER} {VISA}"), vec![visa.clone(), master.clone(), visa.clone()]),
        (format!("{dashed} {MASTER}"), vec![format!("card {dashed}"), master.clone()]),
        (format!("{VISA} 5500-0000-0000-0004"), vec![visa.clone(), "card 5500-0000-0000-0004".into()]),
        (format!("nr 123 {VISA}"), vec![visa.clone()]),
        (format!("nr 12345 {VISA} then"), vec![visa.clone()]),
        (format!("SSN 078-05-1123 {VISA}"), vec!["ssn 078-05-1123".into(), visa.clone()]),
        (
            format!("IBAN DE89 3704 0044 0532 0130 00 {VISA}"),
            vec!["iban DE89 3704 0044 0532 0130 00".into(), visa.clone()],
        ),
        (format!("{VISA} 1227 123"), vec![visa.clone()]),
        (format!("{VISA} 0629"), vec![visa.clone()]),
        (format!("{VISA} 90210 us"), vec![visa.clone()]),
        (format!("{VISA} 2024 4111"), vec![visa]),
        // Tables, and account numbers.
        (format!("1234 {VISA} 5678"), vec![]),
        (format!("{VISA} 5678 1234"), vec![]),
        ("2400 5100 4200 3300 1800 2750 6120 4480".into(), vec![]),
        ("DE88 4111 1111 1111 1111 00".into(), vec![]),
        ("9400 1000 0000 0000 0000 00".into(), vec![]),
    ]
}

#[test]
fn a_card_is_found_among_other_numbers() {
    let pii = Pii::new(&Settings::default()).unwrap();
    for (text, expected) in rows() {
        assert_eq!(found(&pii, &text), expected, "{text}");
    }
}

#[test]
fn a_stream_of_rows_is_judged_as_the_whole_text_wherever_it_is_cut() {
    let pii = Arc::new(Pii::new(&Settings { output: masking(), ..Settings::default() }).unwrap());
    let long = format!("{VISA} {MASTER} ").repeat(5) + "1234 " + &"2400 5100 4200 3300 ".repeat(8) + VISA;
    let texts = rows().into_iter().flat_map(|(text, _)| [format!("{text}, ok"), text]);
    for text in texts.chain([long.clone(), format!("{long} x")]) {
        same_at_each_cut(&pii, &text);
        let whole = streamed(&pii, &[&text]);
        for size in 2..7 {
            let pieces: Vec<&str> =
                text.as_bytes().chunks(size).map(|piece| str::from_utf8(piece).unwrap()).collect();
            assert_eq!(streamed(&pii, &pieces), whole, "in pieces of {size}: {text:?}");
        }
    }
    assert_eq!(
        streamed(&pii, &[&format!("{VISA} {MASTER} and {VISA} 1227 123")]),
        "[CARD] [CARD] and [CARD] 1227 123"
    );
}
