//! Values that are spelled out, in quotes, or lie across two parts of a message.
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sluice::{
    chat::{Message, Part, Purpose, Request, Role, ToolCall},
    guard::pii::{Numbering, Pii, Settings, Survey, Vault},
};

use super::{found, masking, same_at_each_cut, streamed};

#[test]
fn what_is_spelled_out_is_found() {
    let pii = Pii::new(&Settings::default()).unwrap();
    for (text, expected) in [
        ("write to jane&#64;example.com", "email jane&#64;example.com"),
        ("write to jane&#x40;example&period;com", "email jane&#x40;example&period;com"),
        (r#"{"to": "jane\u0040example.com"}"#, r"email jane\u0040example.com"),
        (r#"{"to": "Hi\njane@example.com"}"#, "email jane@example.com"),
        (r#"{"card": "\t4111 1111 1111 1111"}"#, "card 4111 1111 1111 1111"),
        (r#"mail "jane doe"@example.com now"#, r#"email "jane doe"@example.com"#),
        (r#"{"to": "\"jane doe\"@example.com"}"#, r#"email \"jane doe\"@example.com"#),
        ("Jane Doe (b. 12 March 1985, Leeds)", "birth 12 March 1985"),
        ("write to jane&commat;example&period;com", "email jane&commat;example&period;com"),
        ("R&D asks jane&commat;example.com", "email jane&commat;example.com"),
        ("see jane@example.com.txt", "email jane@example.com"),
        ("open jane.doe@example.co.uk.json, please", "email jane.doe@example.co.uk"),
        ("pišite na jelena@firma.rs", "email jelena@firma.rs"),
        ("Jane Doe, b. 12/3/1985", "birth 12/3/1985"),
        ("Jane Doe, b. 12 March 1985", "birth 12 March 1985"),
        ("Hans Meier, geb. 12.03.1985", "birth 12.03.1985"),
        ("Erika Mustermann, *12.03.1985 in Köln", "birth 12.03.1985"),
        ("Erika Mustermann (* 12. März 1985)", "birth 12. März 1985"),
        ("Müller, Anna-Lena * 03.05.1971", "birth 03.05.1971"),
        ("Jean Dupont (°12/03/1985)", "birth 12/03/1985"),
        ("she was born 12/3/85 in Leeds", "birth 12/3/85"),
        ("Maestro 5018 0000 0009", "card 5018 0000 0009"),
        ("paid in 2024 4111 1111 1111 1111 ok", "card 4111 1111 1111 1111"),
        ("paid with 4111 1111 1111 1111 2024", "card 4111 1111 1111 1111"),
        ("code 1234 4111111111111111 x", "card 4111111111111111"),
    ] {
        assert_eq!(found(&pii, text), [expected], "{text}");
    }
    for text in [
        "R&D &amp; tests, [0-9]\\d+, C:\\\\new\\table, \\u00",
        "a. 10 March 1985, b. 12 March 1985",
        "Option b. 12 March 1985",
        "order 501800000009",
        "a &amp; b &commat; c",
        "* 12.03.2014 erste Fassung\n* 13.03.2014 zweite Fassung",
        "Der Termin ist *12.03.2014*, nicht **13.03.2014**",
        "Preise netto, *12.03.2014 geändert",
        "Version 3 Beta, *12.03.2014",
        "Neue Preise *12.03.2024",
        "x = 5 *12.03",
        r#"["", "@example.com"]"#,
        "logo@2x.png, logo@2x.min.js.map, serde@1.0.rs, app@3.min.css",
    ] {
        assert!(found(&pii, text).is_empty(), "{text}: {:?}", found(&pii, text));
    }
}

#[test]
fn what_is_spelled_out_in_an_answer_is_found_too() {
    let pii = Arc::new(Pii::new(&Settings { output: masking(), ..Settings::default() }).unwrap());
    for (text, expected) in [
        (r#"{"to": "jane\u0040example.com", "n": 1}"#, r#"{"to": "[EMAIL]", "n": 1}"#),
        ("in jane@example.com.txt, say", "in [EMAIL].txt, say"),
    ] {
        assert_eq!(streamed(&pii, &[text]), expected);
        same_at_each_cut(&pii, text);
    }
}

#[test]
fn addresses_that_are_said_are_told_from_prose() {
    let pii = Pii::new(&Settings::default()).unwrap();
    for (text, expected) in [
        ("lena dot vogt at gmail dot com", "email lena dot vogt at gmail dot com"),
        ("ask lena.vogt at example dot org please", "email lena.vogt at example dot org"),
        ("it is lena_vogt at example dot org", "email lena_vogt at example dot org"),
        ("it is lena85 at example dot co dot uk.", "email lena85 at example dot co dot uk"),
        ("call lena dot marie dot vogt at example dot de", "email lena dot marie dot vogt at example dot de"),
        ("lena [dot] vogt [at] example [dot] org", "email lena [dot] vogt [at] example [dot] org"),
        ("my e-mail is lena at example dot org", "email lena at example dot org"),
        ("Mail: lena at example dot org", "email lena at example dot org"),
        ("reach me at lena at example dot org", "email lena at example dot org"),
        ("Contact sales at example dot com!", "email sales at example dot com"),
        ("Write to lena at example dot org", "email lena at example dot org"),
        ("I am lena at outlook dot com", "email lena at outlook dot com"),
        ("ann [at] example [dot] org", "email ann [at] example [dot] org"),
        ("ann_at_example.org", "email ann_at_example.org"),
    ] {
        assert_eq!(found(&pii, text), [expected], "{text}");
    }
    for text in [
        "he works at booking dot com",
        "I looked at google dot com today",
        "sales at amazon dot com are up",
        "arrive at ten dot thirty",
        "we aim at zero dot five percent",
        "look at section dot four of it",
        "I looked at gmail dot com and signed up at yahoo dot com",
        "mail me at booking dot com",
        "reach us at booking dot com",
        "the news at yahoo dot com",
        "released in 2024 at python dot org",
        "Node.js at nodeland dot com",
        "the polka dot dress at zara dot com",
        "my mail was late. People at amazon dot com knew",
        "row.created_at_utc.isoformat()",
        "see look_at_this.md",
    ] {
        assert!(found(&pii, text).is_empty(), "{text}: {:?}", found(&pii, text));
    }
}

#[test]
fn what_is_dialled_is_no_card() {
    let pii = Pii::new(&Settings::default()).unwrap();
    for (text, expected) in [
        ("Rufen Sie den Kundendienst unter +4916035139693 an.", "phone +4916035139693"),
        (r#"{"phone":"+4916035139693"}"#, "phone +4916035139693"),
        ("tel:+4916035139693", "phone +4916035139693"),
        ("tel:4916035139693", "phone 4916035139693"),
        ("call + 4916035139693", "phone + 4916035139693"),
        ("card +378282246310005", "card 378282246310005"),
        ("+4111 1111 1111 1111", "card 4111 1111 1111 1111"),
        ("old Visa 4916035139693", "card 4916035139693"),
    ] {
        assert_eq!(found(&pii, text), [expected], "{text}");
    }
    let text = "Rufen Sie den Kundendienst unter +4916035139693 an, tel:+4916035139693.";
    let pii = Arc::new(pii);
    let letters: Vec<String> = text.chars().map(String::from).collect();
    assert_eq!(streamed(&pii, &letters.iter().map(String::as_str).collect::<Vec<_>>()), text);
    assert_eq!(streamed(&pii, &[text]), text);
}

#[test]
fn values_are_announced_in_other_languages() {
    let pii = Pii::new(&Settings::default()).unwrap();
    for (text, expected) in [
        ("パスワード: Sakura#2024", "secret Sakura#2024"),
        ("パスワード：Sakura#2024", "secret Sakura#2024"),
        ("パスワードはSakura#2024です", "secret Sakura#2024"),
        ("パスワードは「Sakura#2024」です。", "secret Sakura#2024"),
        ("パスワード=hunter2xyz99", "secret hunter2xyz99"),
        ("私のパスワードは Sakura#2024 です", "secret Sakura#2024"),
        ("暗証番号: 482913", "secret 482913"),
        ("暗証番号は482913です", "secret 482913"),
        ("口令: Sakura#2024", "secret Sakura#2024"),
        ("密码是Sakura#2024。", "secret Sakura#2024"),
        ("비밀번호는 Seoul2024! 입니다", "secret Seoul2024!"),
        ("비밀번호: Seoul2024!", "secret Seoul2024!"),
        ("비밀번호는 12345678 입니다", "secret 12345678"),
        ("비밀번호는 Seoul2024!입니다", "secret Seoul2024!"),
        ("パスポート番号: TK1234567", "passport TK1234567"),
        ("パスポート番号はTK1234567です", "passport TK1234567"),
        ("カード番号 4111 1111 1111 1111", "card 4111 1111 1111 1111"),
        ("생년월일 1985. 3. 12", "birth 1985. 3. 12"),
        ("생년월일: 1985. 03. 12.", "birth 1985. 03. 12"),
        ("nací el 12 de marzo de 1985", "birth 12 de marzo de 1985"),
        ("nací el 12/03/1985", "birth 12/03/1985"),
        ("nasci em 12 de março de 1985", "birth 12 de março de 1985"),
        ("Nasci no dia 12/03/1985", "birth 12/03/1985"),
    ] {
        assert_eq!(found(&pii, text), [expected], "{text}");
    }
    for text in [
        "パスワードは忘れました",
        "パスワードを変更してください。2024年",
        "パスワード: 8文字以上",
        "비밀번호는 8자 이상이어야 합니다",
        "パスポートの有効期限は2024年です",
        "sections 1985. 3. 12 of it",
        "passcode 口令牌 2024",
    ] {
        assert!(found(&pii, text).is_empty(), "{text}: {:?}", found(&pii, text));
    }
}

#[test]
fn sessions_and_settings_hold_secrets() {
    let pii = Pii::new(&Settings::default()).unwrap();
    let hex = "0f8a3c5e7d1b49f6a2c4e8d07b9f13a5";
    let long = "q7Zt2LmX9vBc4Rk8Wp1Ys6Hd3Nf5Gj0aTeUiOoPx";
    for (text, expected) in [
        (format!("Set-Cookie: sessionid={long}; Path=/"), format!("secret {long}")),
        (format!("Cookie: a=b; JSESSIONID={hex}"), format!("secret {hex}")),
        (format!("PHPSESSID={}", &hex[..26]), format!("secret {}", &hex[..26])),
        ("CREATE USER 'ann' IDENTIFIED BY 'MyS9lPw!';".into(), "secret MyS9lPw!".into()),
        ("requirepass 8sdf7SDF98s".into(), "secret 8sdf7SDF98s".into()),
        ("masterauth 8sdf7SDF98s".into(), "secret 8sdf7SDF98s".into()),
        (format!("use {hex}-us14 there"), format!("secret {hex}-us14")),
        (format!("init('phc_{}')", &long[..38]), format!("secret phc_{}", &long[..38])),
    ] {
        assert_eq!(found(&pii, &text), [expected], "{text}");
    }
    for text in [
        "Set-Cookie: sessionid=<id>; Path=/",
        "the cookie is named JSESSIONID=…",
        "identified by its colour, and by 'nobody'",
        "species identified by DNA2024 barcodes",
        "# requirepass foobared",
        "0x0000000000000000000000000000000000000000 is the wallet address",
        "send to wallet 0x000000000000000000000000000000000000dEaD",
        "at 12:30::45 it ended",
        "mobile first design at 320 480 768 1024",
        "birthday party on 12.03.2026 at 8pm",
        "the birthday party is on 12 March 2026",
    ] {
        assert!(found(&pii, text).is_empty(), "{text}: {:?}", found(&pii, text));
    }
    for (text, expected) in [
        ("her birthday is 12.03.1985", "birth 12.03.1985"),
        ("my birthday, 12 March 1985", "birth 12 March 1985"),
        ("host 2001:db8::45 down", "ip 2001:db8::45"),
        ("mobile 0320 480 768", "phone 0320 480 768"),
    ] {
        assert_eq!(found(&pii, text), [expected], "{text}");
    }
}

#[test]
fn logins_are_found_wherever_they_are_handed_over() {
    let pii = Pii::new(&Settings::default()).unwrap();
    for (text, login) in [
        ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("send Basic YWxhZGRpbjpvcGVuc2VzYW1l along", "YWxhZGRpbjpvcGVuc2VzYW1l"),
        ("curl -u admin:hunter2 https://example.com", "admin:hunter2"),
        ("curl -uadmin:hunter2 https://example.com", "admin:hunter2"),
        ("curl -sSu admin:hunter2 https://example.com", "admin:hunter2"),
        ("curl -X POST --user 'admin:hunter 2' https://example.com", "admin:hunter 2"),
        ("curl --user=admin:hunter2 https://example.com", "admin:hunter2"),
        ("curl -sS \\\n  -H 'x: y' \\\n  -u \"admin:s3cret\" \\\n https://example.com", "admin:s3cret"),
        (r#"{"cmd": "curl -u \"admin:s3cret\" https://example.com"}"#, "admin:s3cret"),
        ("curl https://user:pass@host/path", "https://user:pass@host/path"),
        ("mysql -psecret mydb", "secret"),
        ("run `mysql -u root -phunter2` there", "hunter2"),
        ("mysqldump -h db.example -u root shop -p'hunter 2' > x.sql", "hunter 2"),
        ("$ sshpass -p secret ssh ann@host", "secret"),
        ("sshpass -phunter2 ssh ann@host", "hunter2"),
        ("redis-cli -h cache -p 6379 -a secret ping", "secret"),
        ("redis-cli --pass hunter2", "hunter2"),
        ("docker login registry.example.com -u ann -p hunter2", "hunter2"),
        ("ldapsearch -x -D cn=admin -w hunter2 -b dc=example", "hunter2"),
        ("sshpass -p secret ssh ann@host, and that works", "secret"),
        ("sshpass -p Reads2it ssh it", "Reads2it"),
        ("mysql -psunshine mydb", "sunshine"),
        ("mysql -probert mydb", "robert"),
        ("mysql -u root -plucky", "lucky"),
        ("redis-cli -a monkey get the-key", "monkey"),
        ("PGPASSWORD=secret psql -h db", "secret"),
        ("export REDISCLI_AUTH=hunter2", "hunter2"),
        ("SSHPASS=hunter2 sshpass -e ssh ann@host", "hunter2"),
    ] {
        assert_eq!(found(&pii, text), [format!("secret {login}")], "{text}");
    }
    for text in [
        "curl -u user https://example.com",
        "curl -u $USER:$PASS https://example.com",
        "curl -u \"<user>:<password>\" https://example.com",
        "curl is a tool; its option -u is for: users",
        "mysql -u root -p mydb",
        "mysql -p$PASSWORD -h db; mysql -p\"${PW}\"; mysql -p<password>; mysql -ppassword",
        "mysql -port 3306, mysql -P3306",
        "mysql -u root shop && mkdir -pv a/b | tar -pxf x",
        "I use mysql and then call mkdir -parents",
        "`mysql` takes -pfoo",
        "sshpass -p $PASS ssh ann@host; sshpass -p <password> ssh",
        "redis-cli -p 6379 -n 2",
        "docker login -pulls too often?",
        "sshpass -p reads it",
        "sshpass -p reads the password from its argument",
        "mysql -plus",
        "mysql -plus redis",
        "docker login -push after that",
        "mongo -p takes a password",
        "ldapsearch -with a filter",
        "mongo -p prompts",
        "redis-cli -a exposes it",
        "docker run -p 8080:80 web; docker login -u ann --password-stdin",
        "PASSWORD=get_password(); PASSWORD == secret",
        "curl https://a.example && docker run -u 1000:1000 web",
        "basic knowledge of mathematics",
        "WWW-Authenticate: Basic realm=\"internal\"",
    ] {
        assert!(found(&pii, text).is_empty(), "{text}: {:?}", found(&pii, text));
    }
}

#[test]
fn hidden_values_are_judged_in_streams_as_in_the_whole_text() {
    let pii = Arc::new(Pii::new(&Settings { output: masking(), ..Settings::default() }).unwrap());
    for text in [
        "see jane&#64;example.com and &amp; R&D, ok",
        "see jane&#64;example&period;com, & ok",
        "{\"n\": \"\\t4111\\u00201111\\u002011111111\", \"x\": \"a\\\\n\"} ok",
        "is &#52;111111111111111 one? \\u0034111111111111111 is.",
        "use \"jane doe\"@example.com or \"jane.doe\"@example.com, \"she said\" so",
        "run curl -sS -u \"admin:hunter 2\" https://example.com and then curl -uadmin:pass https://a.test/",
        "curl -u \"admin:never closed, and so on",
        "a basic dXNlcjpwYXNz login, basic knowledge",
        "mysql -u root -h db.internal.example.com -phunters shop, and then redis-cli -a secrets! ping",
        "sshpass -p 'open sesame' ssh ann@host; docker login -u ann -p hunter. And mysql -p shop",
        "see jane&commat;example.com & jane&comma;",
        "Anna Meier, *12.03.1985, Bob Roe (*03.04.1990).",
        "Jane Doe, b. 12 March 1985, and Bob Roe (b. March 3, 1990).",
        "paid in 2024 4111 1111 1111 1111, by 4111 1111 1111 1111 2024 or 4111 1111 1111 1111 20245 then",
        "code 1234 4111111111111111 and 4111 1111 1111 1111 4111 ok 4111 1111 1111 1111 2024 4111",
    ] {
        same_at_each_cut(&pii, text);
    }
}

fn text(text: &str) -> Part {
    Part::Text { text: text.into(), rest: Map::new() }
}

fn masked(parts: Vec<Part>) -> (Vec<Part>, Vault) {
    let pii = Pii::new(&Settings::default()).unwrap();
    let messages = vec![Message { role: Role::User, parts, name: None }];
    let mut chat = Request { messages, ..Request::default() };
    let survey = Survey::of(&pii, &chat);
    let numbering = Numbering { prompts: &[], taken: &|_| Vec::new(), key: None };
    let vault = survey.mask(&mut chat, &numbering).unwrap();
    (chat.messages.remove(0).parts, vault)
}

fn seen(parts: &[&str]) -> Vec<String> {
    let parts = masked(parts.iter().map(|part| text(part)).collect()).0;
    let said = |part| if let Part::Text { text, .. } = part { text } else { String::new() };
    parts.into_iter().map(said).collect()
}

#[test]
fn a_value_across_two_parts_has_one_placeholder_where_it_begins() {
    assert_eq!(seen(&["I am jane@exa", "mple.com, hi"]), ["I am [EMAIL_1]", ", hi"]);
    assert_eq!(
        seen(&["card 4111 1111 ", "1111 11", "11, thanks"]),
        ["card [CARD_1]", "[CARD_1]", ", thanks"]
    );
    // Each of them says something by itself, and the numbers follow the order of the texts.
    assert_eq!(
        seen(&["from ann@example.org", "to bob@exam", "ple.org for ann@example.org"]),
        ["from [EMAIL_1]", "to [EMAIL_2]", " for [EMAIL_1]"]
    );
    assert_eq!(
        seen(&["write to ann@example.org", "is that right?"]),
        ["write to [EMAIL_1]", "is that right?"]
    );
    // Long texts meet with their ends.
    let long = "word ".repeat(4000);
    let parts = seen(&[&format!("{long}jane@exa"), &format!("mple.com {long}")]);
    assert!(parts[0].ends_with("word [EMAIL_1]") && parts[1].starts_with(" word"));
}

#[test]
fn a_key_in_pieces_is_one_also_where_the_first_looks_like_one() {
    let (one, two, three) = ("sk-proj-a8Kd02jfLq93Mx71Bz", "Qw4rT7yU", "1oP5aSd9");
    for parts in [vec![one, two, three], vec![one, &"Qw4rT7yU1oP5aSd9"], vec![one, two, three, "\nthanks"]] {
        let shown = seen(&parts);
        assert_eq!(shown[0], "[SECRET_1]");
        assert!(shown[1..].iter().all(|part| ["[SECRET_1]", "\nthanks"].contains(&&**part)), "{shown:?}");
    }
    let shown = seen(&["use sk-proj-a8Kd02jfLq93Mx71Bz", "Qw4rT7yU1oP5aSd9 now"]);
    assert_eq!(shown, ["use [SECRET_1]", " now"]);
    // What follows a whole key is a word, or another key.
    for next in ["thanks", "Thanks2024", "for", "2024", "2024-05-11", "IDs"] {
        assert_eq!(seen(&[one, next]), ["[SECRET_1]", next]);
    }
    assert_eq!(seen(&[one, "sk-proj-Zz81Kd02jfLq93Mx71"]), ["[SECRET_1]", "[SECRET_2]"]);
}

#[test]
fn where_many_values_lie_across_many_parts_each_goes_before_what_its_pieces_look_like() {
    let texts = ["from ann@example.org", "to bob@exam", "ple.org for ann@example.org", "; "];
    let many: Vec<&str> = texts.iter().copied().cycle().take(2000).collect();
    let shown = seen(&many);
    assert_eq!(shown[..4], ["from [EMAIL_1]", "to [EMAIL_2]", " for [EMAIL_1]", "; "]);
    assert!(shown.chunks(4).all(|row| row == &shown[..4]), "{shown:?}");
    let cards: Vec<&str> = ["card 4111 1111 ", "1111 1111, "].iter().copied().cycle().take(2000).collect();
    assert!(seen(&cards).chunks(2).all(|row| row[0] == "card [CARD_1]" && row[1] == ", "));
}

fn said(role: Role, said: &str) -> Message {
    Message { role, parts: vec![text(said)], name: None }
}

/// What the model is shown of messages.
fn told(messages: Vec<Message>, purpose: Purpose) -> Vec<String> {
    let pii = Pii::new(&Settings::default()).unwrap();
    let mut chat = Request { messages, purpose, ..Request::default() };
    let numbering = Numbering { prompts: &[], taken: &|_| Vec::new(), key: None };
    Survey::of(&pii, &chat).mask(&mut chat, &numbering).unwrap();
    chat.messages.iter().map(Message::text).collect()
}

#[test]
fn what_one_text_announces_and_the_next_begins_with_is_found() {
    for (parts, masked) in [
        (["my password: ", "hunter2secret"], "[SECRET_1]"),
        (["The password is", "hunter2secret, ok?"], "[SECRET_1], ok?"),
        (["Passport number", "\n C01X00T47 please"], "\n [PASSPORT_1] please"),
        (["born on", "12 March 1985 in Leeds"], "[BIRTH_1] in Leeds"),
        (["Call my mobile", "5551234567."], "[PHONE_1]."),
        (["DB_PASSWORD=", "'tr0ub4dor'"], "'[SECRET_1]'"),
        (["DB_PASSWORD=", "sunshine"], "[SECRET_1]"),
        (["My login password:", "sunshine\n"], "[SECRET_1]\n"),
        (["Anna Meier,", "*12.03.1985"], "*[BIRTH_1]"),
        (["Anna Meier, *", "12.03.1985 in Köln"], "[BIRTH_1] in Köln"),
        (["Jean Dupont", "°12/03/1985"], "°[BIRTH_1]"),
    ] {
        assert_eq!(seen(&parts), [parts[0], masked]);
        let messages = parts.map(|part| said(Role::User, part)).to_vec();
        assert_eq!(told(messages, Purpose::Chat), [parts[0], masked]);
    }
    // Pieces of it behind the announcement are one value.
    assert_eq!(seen(&["password: ", "hunter2", "tango9"]), ["password: ", "[SECRET_1]", "[SECRET_1]"]);
    for parts in [
        ["What makes a good password?", "At least 12 characters"],
        ["Enter your new user password:", "Please help me with this form"],
        ["I forgot my password", "Reset2024 does not work"],
        ["The password is", "case-sensitive"],
        ["Enter your new password:", "thanks"],
        ["Enter your new password:", "Forgotten"],
        ["Enter your new password:", "sunshine is a bad one"],
        ["My login password:", "x"],
        ["My login password:", "hi"],
        ["password: x", "y"],
        ["Preise netto,", "*12.03.2014 geändert"],
        ["Termine:", "* 12.03.1985 Treffen"],
        ["See the list", "*12.03.1985"],
        ["Version 3 Beta,", "*12.03.1985"],
        ["password: ", "<your-password>"],
        ["Which phone should I buy?", "2024-05-11 is the date"],
        ["The order number is", "5551234567"],
        ["the token limit is", "128000 now"],
    ] {
        assert_eq!(seen(&parts), parts);
    }
}

#[test]
fn a_value_over_two_messages_of_one_party_is_one() {
    let both = |one: Role, two: Role, purpose| {
        told(vec![said(one, "card 4111 1111 "), said(two, "1111 1111, thanks")], purpose)
    };
    assert_eq!(both(Role::User, Role::User, Purpose::Chat), ["card [CARD_1]", ", thanks"]);
    let mail = vec![said(Role::User, "I am jane@exa"), said(Role::User, "mple.com, hi")];
    assert_eq!(told(mail, Purpose::Chat), ["I am [EMAIL_1]", ", hi"]);
    // Another's words, and texts of their own, are not put together.
    let apart = ["card 4111 1111 ", "1111 1111, thanks"];
    assert_eq!(both(Role::User, Role::Assistant, Purpose::Chat), apart);
    assert_eq!(both(Role::User, Role::User, Purpose::Embed { dimensions: None }), apart);
    let mut named = vec![said(Role::User, apart[0]), said(Role::User, apart[1])];
    named[1].name = Some("bob".into());
    assert_eq!(told(named, Purpose::Chat), apart);
}

#[test]
fn what_no_value_lies_across_stays_as_it_is() {
    for parts in [vec!["one", "two"], vec!["", "", "x"], vec!["call 555", "1234"], vec!["日本", "語 &"]] {
        assert_eq!(seen(&parts), parts);
    }
}

#[test]
fn arguments_stay_json_and_have_the_value_that_is_meant() {
    let arguments = r#"{"to": "Hi\njane\u0040example.com", "note": "\"jane doe\"@example.com"}"#;
    let call = ToolCall { arguments: arguments.into(), ..ToolCall::default() };
    let result = Part::ToolResult {
        id: "jane@example.com".into(),
        parts: vec![text(r#"{"from": "jane\u0040example.com"}"#)],
        failed: false,
        rest: Map::new(),
    };
    let (parts, vault) = masked(vec![Part::ToolCall(call), result, text("jane@example.com")]);
    let Part::ToolCall(call) = &parts[0] else { panic!() };
    let read: Value = serde_json::from_str(&call.arguments).unwrap();
    assert_eq!(read, json!({"to": "Hi\n[EMAIL_1]", "note": "[EMAIL_2]"}));
    // The same value has one placeholder, however it is spelled; ids are ids.
    let Part::ToolResult { id, parts: told, .. } = &parts[1] else { panic!() };
    assert_eq!(told[0], text(r#"{"from": "[EMAIL_1]"}"#));
    assert_eq!(id, "jane@example.com");
    assert_eq!(parts[2], text("[EMAIL_1]"));
    assert!(!vault.is_empty());
}
