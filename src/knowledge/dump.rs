#[test]
fn dump() {
    for (chars, n) in [(800, 3), (800, 5)] {
        let k = super::Knowledge::handbook(chars);
        for line in std::fs::read_to_string(std::env::var("GOLDEN").unwrap()).unwrap().lines() {
            let item: serde_json::Value = serde_json::from_str(line).unwrap();
            let q = item["input"].as_str().unwrap();
            let terms = super::question_terms(q);
            let passages = k.search(q, n);
            let (f, chosen, _) = super::extract::weigh(&k.index, &terms, &passages);
            let doc = chosen.first().map(|c| passages[c.0].document.to_string()).unwrap_or_default();
            let e = k.extract(q, &passages);
            println!(
                "DUMP {}",
                serde_json::json!({"q": q, "n": n, "y": !item["relevant"].as_array().unwrap().is_empty(), "doc": doc, "ok": item["relevant"].as_array().unwrap().iter().any(|r| *r == doc), "text": e.text(), "conf": e.confidence, "f": [f.answer, f.best, f.passage, f.heading, f.score, f.unknown], "terms": terms, "unk": terms.iter().filter(|t| !k.index.knows(t)).collect::<Vec<_>>()})
            );
        }
    }
}
