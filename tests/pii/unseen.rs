//! What a stranger's texts showed to be missed or mistaken: rows of tables, settings, addresses behind versions.
use std::sync::Arc;

use sluice::guard::pii::{Pii, Settings};

use super::{found, masking, same_at_each_cut};

fn check(cases: &[(&str, &[&str])]) {
    let pii = Pii::new(&Settings::default()).unwrap();
    for (text, expected) in cases {
        assert_eq!(found(&pii, text), *expected, "{text}");
    }
}

fn nothing(cases: &[&str]) {
    let pii = Pii::new(&Settings::default()).unwrap();
    for text in cases {
        assert!(found(&pii, text).is_empty(), "{text}: {:?}", found(&pii, text));
    }
}

#[test]
fn a_value_follows_a_digit_and_a_comma() {
    check(&[
        ("8424,172.18.199.17,login,ok", &["ip 172.18.199.17"]),
        ("10:00,154.50.99.93,192.168.217.124,6904", &["ip 154.50.99.93", "ip 192.168.217.124"]),
        ("2025-11-03,5139317053318862,19.90", &["card 5139317053318862"]),
        ("x\n7,5139 3170 5331 8862,19.90", &["card 5139 3170 5331 8862"]),
        ("id,dob\n1,1982-11-19", &["birth 1982-11-19"]),
        ("7,GB82WEST12345698765432,x", &["iban GB82WEST12345698765432"]),
        ("7,+447911123456,x", &["phone +447911123456"]),
        ("7,123-45-6789,x", &["ssn 123-45-6789"]),
    ]);
    nothing(&[
        "1,234.56 and 12,345,678.90 and 1,234,567.89",
        "pi is 3,1415926535897932 or so, e is 2,4111111111111111",
        "1,192.168",
        "the ratio 0,4111111111111111",
        "born 1,234 of them, 1,982",
    ]);
}

#[test]
fn a_version_is_what_its_word_names() {
    let ip: &[&str] = &["ip 201.246.33.48"];
    check(&[
        (
            "fw kernel: DROP IN=eth0 SRC=27.60.237.24 DST=172.27.31.98 PROTO=TCP",
            &["ip 27.60.237.24", "ip 172.27.31.98"],
        ),
        ("kernel: [34768.123456] [UFW BLOCK] SRC=201.246.33.48 LEN=60", ip),
        ("Version 2.3 client at 201.246.33.48 reported an error", ip),
        ("Linux kernel 6.1 on 201.246.33.48", ip),
        ("release 4 deployed to 201.246.33.48", ip),
        ("client v2.3 from 201.246.33.48", ip),
        ("update: 201.246.33.48 unreachable", ip),
        ("kernel: 201.246.33.48 unreachable", ip),
        ("the update on host 201.246.33.48 failed", ip),
        ("update from 201.246.33.48 failed", ip),
        ("block 201.246.33.48 after the last version", ip),
        ("at IP51.15.88.3 it", &["ip 51.15.88.3"]),
    ]);
    nothing(&[
        "firmware 12.4.15.8",
        "firmware: 12.4.15.8, version is 12.4.15.8, Version = 12.4.15.8, v12.4.15.8",
        "Upgrade to version 12.4.15.8, or upgrade from 12.4.15.8 to 12.4.15.9",
        "update to 12.4.15.8 now",
        "kernel 5.15.0.91 is out",
        "release number 12.4.15.8",
        "see section 12.4.15.8",
        "the 12.4.15.8 release",
        "since version 12.4.15.7 and 12.4.15.8",
        "Updated curl from 12.4.15.8 to 12.4.15.9",
        "app 12.4.15.8 released",
    ]);
}

#[test]
fn settings_calls_and_sentences_hold_passwords() {
    let pii = Pii::new(&Settings::default()).unwrap();
    let long = "tH3thOuXUhw2+AW7myTH+Yt2eBd0RF8TJc4kJEJf";
    for (text, secret) in [
        ("SMTP_PASS=Z4h2uJV4t9893", "Z4h2uJV4t9893"),
        ("DB_PASS = Z4h2uJV4t9893", "Z4h2uJV4t9893"),
        ("PASS=Z4h2uJV4t9893", "Z4h2uJV4t9893"),
        ("export DB_PASS=sunshine", "sunshine"),
        ("PGPASS=Z4h2uJV4t9893", "Z4h2uJV4t9893"),
        ("define('DB_PASSWORD', 'eMq31kxUos574');", "eMq31kxUos574"),
        ("define( \"DB_PASSWORD\", \"eMq31kxUos574\" );", "eMq31kxUos574"),
        ("define('AUTH_KEY', 'k8sQv3Lr7Wn2xTz5Bd9Ym4Hc');", "k8sQv3Lr7Wn2xTz5Bd9Ym4Hc"),
        ("client.set('password','eMq31kxUos574')", "eMq31kxUos574"),
        ("$config['db_pass'] = 'eMq31kxUos574';", "eMq31kxUos574"),
        ("config[\"db_pass\"] = \"eMq31kxUos574\"", "eMq31kxUos574"),
        ("Password (temporary): Orbit-Cobalt66", "Orbit-Cobalt66"),
        ("Password (new): tig3r160!", "tig3r160!"),
        ("Your one-time password was reset to TIGcopper_4481.", "TIGcopper_4481"),
        ("The password has been changed to TIGcopper_4481.", "TIGcopper_4481"),
        ("password changed to TIGcopper_4481", "TIGcopper_4481"),
        ("password set to TIGcopper_4481", "TIGcopper_4481"),
        ("palavra-passe: meadow-falcon-river-34", "meadow-falcon-river-34"),
        ("usuario: Roman clave: falconriver386", "falconriver386"),
        ("usuario: Renée clave: Meadow2016!", "Meadow2016!"),
        ("WLAN-Schlüssel: 6UTNNK#7fRJy3", "6UTNNK#7fRJy3"),
        ("Netzwerkschlüssel: vi0l3t689!", "vi0l3t689!"),
        ("echo \"aXPvmBGMMK128\" | docker login -u bob --password-stdin", "aXPvmBGMMK128"),
        ("echo aXPvmBGMMK128 | docker login -u bob --password-stdin", "aXPvmBGMMK128"),
        ("ConvertTo-SecureString \"COBcanyon_0831\" -AsPlainText -Force", "COBcanyon_0831"),
        ("ConvertTo-SecureString -String 'COBcanyon_0831' -AsPlainText", "COBcanyon_0831"),
        ("root:E6xqVwsi8V409@tcp(db:3306)/shop", "root:E6xqVwsi8V409"),
        ("redis.auth: AjtKSHFTrq994", "AjtKSHFTrq994"),
        ("utente Janice, password tiger-harbor-orbit-19", "tiger-harbor-orbit-19"),
        ("pasted it and password wintercanyon754", "wintercanyon754"),
        (
            "https://api.telegram.org/bot2252112869:AALg3lnLkjuRv-lVC4gVQVb627CHZdS8DA1/getMe",
            "2252112869:AALg3lnLkjuRv-lVC4gVQVb627CHZdS8DA1",
        ),
    ] {
        assert_eq!(found(&pii, text), [format!("secret {secret}")], "{text}");
    }
    for sign in [" / ", ":", ",", ", ", "\t", " : ", "|"] {
        let text = format!("pair AKIAOTCEF6XZDP5CKGKN{sign}{long} end");
        assert_eq!(
            found(&pii, &text),
            ["secret AKIAOTCEF6XZDP5CKGKN".into(), format!("secret {long}")],
            "{text}"
        );
    }
    nothing(&[
        "postgres://user:password@localhost:5432/db",
        "DB_PASS=$DB_PASS; DB_PASS=${DB_PASS}; DB_PASS=<password>; PASS=xxxxxxxx",
        "two_pass=enabled, test_pass = True, multi_pass=disabled",
        "define('AUTH_KEY', 'put your unique phrase here');",
        "request.only('password', 'password2'); ['password', 'username']; f('password', 'confirm2')",
        "set('password', 'required')",
        "Password (required): at least 12 characters, Password (min. 12 characters): yes",
        "la clave: el trabajo, la palabra clave: sostenibilidad, clave: producto",
        "the key was reset to default, the password was reset to what it was",
        "password changed to improve security; password set to expire",
        "ConvertTo-SecureString $plain -AsPlainText; ConvertTo-SecureString is a command",
        "echo $PASS | docker login -u bob --password-stdin",
        "cat pass.txt | docker login --password-stdin",
        "user:$PASS@tcp(db:3306)/shop, user:<password>@tcp(db), user:password@tcp(db)/x",
        "password sha256 is weak, and password oauth2 flows, and password base64 encoded",
        "the password rotation2024 policy",
        "proxy_pass upstream01; pass = 2, ski pass = winter2024, Boarding pass: AB12CD34",
        "PASS: tests/run42.sh, --- PASS: TestFoo2Bar (0.00s)",
        "the pass is x2345678abc",
        "AKIA / keys of forty letters",
    ]);
}

#[test]
fn a_header_announces_the_column_of_the_rows_that_follow() {
    check(&[
        (
            "name\tdob\nDionisio Everett\t1977-12-19\nAlana Süßebier\t1982-11-19",
            &["birth 1977-12-19", "birth 1982-11-19"],
        ),
        (
            "name,dob,city\nLucio Walker,25.06.1991,Austin\nEmilio Langern,11-11-1969,Denver",
            &["birth 25.06.1991", "birth 11-11-1969"],
        ),
        (
            "name;email;iban;birthdate\nLuana Georges;beau847@ziggo.nl;LI2413828345611131610;2000-07-12\n\
             Ann Lee;ann@example.org;LI2413828345611131610;19730112",
            &[
                "email beau847@ziggo.nl",
                "iban LI2413828345611131610",
                "birth 2000-07-12",
                "email ann@example.org",
                "iban LI2413828345611131610",
                "birth 19730112",
            ],
        ),
        (
            "id,dob,joined\n1,1982-11-19,2020-01-05\n2,1983-10-18,2021-02-06",
            &["birth 1982-11-19", "birth 1983-10-18"],
        ),
        (
            "\"id\",\"geburtsdatum\"\n\"a, b\",\"12.03.1985\"\n7,3.4.1986\n",
            &["birth 12.03.1985", "birth 3.4.1986"],
        ),
        (
            "username,password\nKévim,Winter-Meadow22\nAnn,falcon-lantern-falcon-74",
            &["secret Winter-Meadow22", "secret falcon-lantern-falcon-74"],
        ),
        (
            "user\tpassword\r\nDina\tiGib3W1tBy779\r\nJo\tsjbc7104?IRL\r\n",
            &["secret iGib3W1tBy779", "secret sjbc7104?IRL"],
        ),
        (
            "Here:\n\n| user | password |\n|---|---|\n| Eliza | WINviolet_3495 |\n| Jo | `vi0l3t689!` |\n",
            &["secret WINviolet_3495", "secret vi0l3t689!"],
        ),
        (
            "| name | email | phone | ip |\n|---|---|---|---|\n| Karol | k@example.com | 004721465837 | 196.58.10.216 |",
            &["email k@example.com", "phone 004721465837", "ip 196.58.10.216"],
        ),
        ("id,name,ssn\n1,Ann,536221234\n2,Bob,536221235", &["ssn 536221234", "ssn 536221235"]),
        (
            "id,passport_no,city\n1,815158593,Leeds\n2,C01X00T47,York",
            &["passport 815158593", "passport C01X00T47"],
        ),
        ("name,nhs_number\nAnn,4316449613\nBob,7151808402", &["nhs 4316449613", "nhs 7151808402"]),
    ]);
    nothing(&[
        "setting,password policy\nlength,Winter22\n",
        "user,password_hash\nann,9f8e7d6c5b4a\n",
        "method,password\nbest,sha256\nworst,base64\n",
        "| field | password |\n|---|---|\n| required | yes |\n| type | string |\n",
        "Dear Bob, the password, as said\nis not known, Winter-2022, yet\n",
        "software,version\nnginx,12.4.15.8\ncurl,12.4.15.9\n",
        "year,mobile,desktop\n2024,54959025,12345678\n",
        "year,phones sold\n2024,54959025\n2025,54959026\n",
        "phone,date\nnone,2024-05-11\nnone,2024-05-12\n",
    ]);
}

#[test]
fn a_long_table_is_read_once() {
    let pii = Pii::new(&Settings::default()).unwrap();
    let rows: String = (0..500).map(|row| format!("{row},ann{row},1985-03-{:02}\n", row % 28 + 1)).collect();
    assert_eq!(found(&pii, &format!("id,name,dob\n{rows}")).len(), 500);
}

#[test]
fn births_addresses_and_accounts_stand_in_more_forms() {
    check(&[
        ("Sono nata a Napoli il 22/09/2000", &["birth 22/09/2000"]),
        ("Sono nata a Napoli il 22 agosto 1961", &["birth 22 agosto 1961"]),
        ("Née à Lyon le 10.10.1939", &["birth 10.10.1939"]),
        ("né à Lyon le 9 février 1975", &["birth 9 février 1975"]),
        ("Unsubscribe karina646@example.net...now please", &["email karina646@example.net"]),
        ("drop me a line: antoine541@k8s.dev—cheers", &["email antoine541@k8s.dev"]),
        ("drop me a line: ANN@PROTON.ME—cheers", &["email ANN@PROTON.ME"]),
        (":25:LI2413828345611131610", &["iban LI2413828345611131610"]),
        ("IBAN:DE50812849521346384037BIC:UNCRITMM", &["iban DE50812849521346384037"]),
        ("IBANDE50812849521346384037", &["iban DE50812849521346384037"]),
        ("GET /Patient/4316449613 (NHS number lookup)", &["nhs 4316449613"]),
        ("National Health Service number: 407 550 6282", &["nhs 407 550 6282"]),
        ("Ref: HX 17 65 64 D / SA302", &["nino HX 17 65 64 D"]),
        ("ref HX176564D", &["nino HX176564D"]),
        ("%B6500318601010869^DOE/JOHN^2712101?", &["card 6500318601010869"]),
        (
            "https://solscan.io/account/82MXLM6RjQNxzdt3GYJrYMKrFsott189oDG7BTRxXxBm",
            &["wallet 82MXLM6RjQNxzdt3GYJrYMKrFsott189oDG7BTRxXxBm"],
        ),
        ("Passport C01X00T47, visa V1234567", &["passport C01X00T47"]),
        ("pasaporte PAC898279, vuelo IB2346", &["passport PAC898279"]),
        ("passports C01X00T47 and PA1234567", &["passport C01X00T47", "passport PA1234567"]),
        ("815158593 is my passport number", &["passport 815158593"]),
        ("Passport/ID: 471563291", &["passport 471563291"]),
        ("Passport or ID: GA226783", &["passport GA226783"]),
    ]);
    nothing(&[
        "ref HX176564D-77, part HX176564D",
        "815158593 is the serial of the passport printer",
        "815158593 of them wait at the passport desk",
        "the part B6500318601010869 of it",
        "/item/4316449613 is sold out",
        "solscan.io/token/82MXLM6RjQNxzdt3GYJrYMKrFsott189oDG7BTRxXxBm",
    ]);
}

#[test]
fn telephones_are_told_from_what_is_counted() {
    check(&[
        ("appelle-moi au 0616271530 stp", &["phone 0616271530"]),
        ("Rappelez-moi vite au 0123921836 svp", &["phone 0123921836"]),
        ("Rückruf erbeten: 015590929707", &["phone 015590929707"]),
        ("proszę o kontakt pod numerem 516 952 518", &["phone 516 952 518"]),
        ("proszę o kontakt pod numerem 123995034", &["phone 123995034"]),
        ("9078;Evaristo Leszczak;00306916956303;gold;2024", &["phone 00306916956303"]),
        ("my nr is 0031614403709", &["phone 0031614403709"]),
        ("Fax: 8434372", &["phone 8434372"]),
        ("cell 253307389, phones: 54959025", &["phone 253307389", "phone 54959025"]),
    ]);
    nothing(&[
        "Fax machines sold: 8434372",
        "mobile users: 54959025",
        "mobile sessions: 54959025",
        "cell A1 contains 253307389, cell B2 68489833",
        "phone calls: 54959025",
        "phones sold: 54959025",
        "telephone lines in service: 54959025",
        "9078;0012345678;gold",
        "9078;00012345678901;gold",
    ]);
}

#[test]
fn a_stream_of_them_is_judged_as_the_whole_text_wherever_it_is_cut() {
    let pii = Arc::new(Pii::new(&Settings { output: masking(), ..Settings::default() }).unwrap());
    for text in [
        "8424,172.18.199.17,login\n2025-11-03,5139317053318862,19.90\n1,234.56 and 3,4111111111111111, ok",
        "kernel: SRC=27.60.237.24 DST=172.27.31.98 Version 2.3 at 201.246.33.48, firmware 12.4.15.8 and IP51.15.88.3 ok",
        "update from 201.246.33.48 to 12.4.15.9, the 12.4.15.8 release",
        "SMTP_PASS=Z4h2uJV4t9893 DB_PASS = x9Kd02jf, define('DB_PASSWORD', 'eMq31kxUos574'); $c['db_pass'] = 'a1b2c3d4e5';",
        "define('AUTH_KEY', 'k8sQv3Lr7Wn2xTz5Bd9Ym4Hc'); set('password','eMq31kxUos574') and so on",
        "Password (temporary): Orbit-Cobalt66 and password was reset to TIGcopper_4481. Then clave: falconriver386 ok",
        "password tiger-harbor-orbit-19, and password wintercanyon754. Or password rotation2024 policy",
        "ConvertTo-SecureString \"COBcanyon_0831\" -AsPlainText, redis.auth: AjtKSHFTrq994 x",
        "AKIAOTCEF6XZDP5CKGKN / tH3thOuXUhw2+AW7myTH+Yt2eBd0RF8TJc4kJEJf, AKIAOTCEF6XZDP5CKGKN:short and so on",
        "AKIAOTCEF6XZDP5CKGKN,tH3thOuXUhw2+AW7myTH+Yt2eBd0RF8TJc4kJEJfX AKIAOTCEF6XZDP5CKGKN\ttH3thOuXUhw2+AW7myTH+Yt2eBd0RF8TJc4kJEJf",
        "https://api.telegram.org/bot2252112869:AALg3lnLkjuRv-lVC4gVQVb627CHZdS8DA1/getMe now",
        "name,dob,city\nLucio Walker,25.06.1991,Austin\nEmilio Langern,11-11-1969,Denver\nid,dob\n1,1982-11-19\n2,1983-10-18\n",
        "| user | password |\n|---|---|\n| Eliza | WINviolet_3495 |\n",
        "Sono nata a Napoli il 22/09/2000. Née à Lyon le 9 février 1975, ok",
        "karina646@example.net...now, antoine541@k8s.dev—cheers",
        ":25:LI2413828345611131610 IBAN:DE50812849521346384037BIC:UNCRITMM IBANDE50812849521346384037 ok",
        "GET /Patient/4316449613 (NHS) and NHS /Patient/4316449613, Ref: HX 17 65 64 D / SA302",
        "%B6500318601010869^DOE/JOHN^2712101? solscan.io/account/82MXLM6RjQNxzdt3GYJrYMKrFsott189oDG7BTRxXxBm",
        "pasaporte PAC898279, vuelo IB2346 and 815158593 is my passport number. Passport/ID: 471563291, Passport or ID: GA226783 x",
        "appelle-moi au 0616271530; 9078;00306916956303;gold; my nr is 0031614403709, phone calls: 54959025, cell A1 contains 253307389",
    ] {
        same_at_each_cut(&pii, text);
    }
}

#[test]
fn a_table_goes_on_behind_a_ruler_and_odd_lines() {
    let pii = Pii::new(&Settings::default()).unwrap();
    let secrets = |text: &str| found(&pii, text).into_iter().filter(|one| one.starts_with("secret")).count();
    for (text, many) in [
        (
            " id | name | dob | password\n----+------+-----+----------\n  1 | Ann | 1984-05-14 | Rocket6915\n",
            1,
        ),
        (
            "+----+----------+\n| id | password |\n+----+----------+\n|  1 | Rocket6915 |\n|  2 | Harbor2244 |\n+----+----------+\n",
            2,
        ),
        ("user,password\nann,Rocket6915,late\nbob,Harbor2244\n", 2),
        (
            "user,password,city\nann,Rocket6915,Bonn\n# two more\n\nbob,Harbor2244,Ulm\ntotal,3\neve,Tulip9931,Rom\n",
            3,
        ),
        ("user,api_key\nann,q1062132737121319Xy\nbob,tokens\n", 1),
        ("user,token_count\nann,1062132737\n", 0),
        ("user,tokens\nann,106213273712\n", 0),
        (
            "user,password\nann,Rocket6915\n\nWe went out, then home.\nAnd so on, and on.\nAsk me, Winter2244\n",
            1,
        ),
    ] {
        assert_eq!(secrets(text), many, "{text}: {:?}", found(&pii, text));
    }
    let next = "a,dob\nAnn,1984-05-14\nid,name,dob\n7,Bob,1985-06-15\n";
    assert_eq!(found(&pii, next), ["birth 1984-05-14", "birth 1985-06-15"]);
}
