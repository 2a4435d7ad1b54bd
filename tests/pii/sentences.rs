//! Sentences with values in them, and sentences that only look so.
use std::ops::Range;

use super::values::{CAPITALS, Chance, DIGITS, value};

/// A sentence, and what is in it.
pub(crate) struct Sentence {
    pub(crate) text: String,
    pub(crate) spans: Vec<(&'static str, Range<usize>)>,
}

/// Sentences; the words in braces are types.
const SENTENCES: &[&str] = &[
    "You can write to {email} any time.",
    "{email} bounced yesterday",
    "cc: {email}, {email}",
    "<a href=\"mailto:{email}\">write</a>",
    "User {email} came in from {ip}",
    "{\"user\": \"{email}\"}",
    "name,mail\nBob,{email}\n",
    "Schreib an {email}!",
    "Escríbeme a {email}, por favor",
    "(see {email})",
    "**{email}**",
    "请发送到{email}。",
    "From: Ann <{email}>\nTo: Bob <{email}>",
    "Please charge {card} for this",
    "My Visa is {card}, exp 04/27",
    "pay with {card}.",
    "card={card}&cvv=123",
    "Karte: {card}",
    "the front reads {card}",
    "{\"pan\":\"{card}\"}",
    "He typed {card} into the form",
    "Tarjeta {card}",
    "| {card} | declined |",
    "Transfer to {iban} please",
    "IBAN: {iban}",
    "my account is {iban}.",
    "Überweise 50 EUR auf {iban}, danke",
    "{\"iban\": \"{iban}\"}",
    "refund -> {iban}",
    "Virement : {iban}\nMerci",
    "pay {iban} by Friday",
    "My social is {ssn}",
    "SSN {ssn} on file",
    "ssn: {ssn}",
    "applicant's number {ssn} was verified",
    "{\"ssn\":\"{ssn}\"}",
    "Employee {ssn} starts Monday",
    "W-2 for {ssn}",
    "NHS number {nhs}",
    "patient NHS no. {nhs}",
    "My NHS: {nhs}, thanks",
    "nhs_number={nhs}",
    "NHS No: {nhs} (GP surgery)",
    "NI number {nino}",
    "National Insurance: {nino}",
    "her NINO is {nino}.",
    "{nino} is my national insurance number",
    "payroll ({nino})",
    "passport {passport}",
    "Passport number: {passport}",
    "My passport no is {passport} and it expires soon",
    "Reisepass Nr. {passport}",
    "numéro de passeport {passport}",
    "pasaporte: {passport}",
    "{\"passport_number\": \"{passport}\"}",
    "Passport No.: {passport}\nName: X",
    "Connection from {ip} refused",
    "{ip} - - [10/Oct/2023:13:55:36 +0000] \"GET / HTTP/1.1\" 200 2326",
    "ping {ip}",
    "block {ip}, {ip}",
    "Client address={ip}",
    "ssh root@{ip}",
    "the visitor's IP was {ip}.",
    "DOB: {birth}",
    "born on {birth}",
    "Date of birth {birth}",
    "She was born {birth} in Leeds",
    "geboren am {birth}",
    "née le {birth}",
    "fecha de nacimiento: {birth}",
    "my birthday is {birth}",
    "{\"dob\": \"{birth}\"}",
    "date_of_birth={birth}",
    "patient (born {birth}) admitted",
    "Send BTC to {wallet}",
    "wallet: {wallet}",
    "my ethereum address is {wallet}",
    "donate {wallet} thanks",
    "crypto deposit {wallet}",
    "key = \"{secret}\"",
    "export TOKEN={secret}",
    "my key is {secret} don't share",
    "{\"token\": \"{secret}\"}",
    "curl -H 'Authorization: Bearer {secret}'",
    "I committed {secret} by accident",
    "use {secret} to connect",
    "Call me at {intl}",
    "{intl} is best",
    "Reach me on {intl} after 5pm",
    "WhatsApp {intl}",
    "phone: {intl}",
    "tel:{intl}",
    "contact - {intl} - urgent",
    "{\"mobile\":\"{intl}\"}",
    "Ruf {intl} an",
    "appelez le {intl}",
    "{strong} works",
    "my office: {strong}",
    "ask for Kim at {strong}.",
    "{\"ph\": \"{strong}\"}",
    "Kim;{strong};London",
    "my phone number is {phone}",
    "Phone: {phone}",
    "call {phone} today",
    "mobile {phone}",
    "tel. {phone}",
    "Telefon: {phone}",
    "Téléphone : {phone}",
    "teléfono {phone}",
    "电话:{phone}",
    "携帯は {phone} です",
    "{\"phone\": \"{phone}\"}",
    "customerPhone={phone}",
    "Hi, I'm Jo. Mail {email}, phone {intl}, card {card}.",
    "name: Jo\nemail: {email}\niban: {iban}\nip: {ip}",
    "{email};{ssn};{card}",
    "SSN {ssn}, DOB {birth}, card {card}",
    "{email}\t{intl}\t{ip}",
    "pw for the staging box is {password}",
    "user=jo\npassword={password}",
    "\"db_password\": \"{password}\"",
    "the admin's password is {password}",
    "our new password {password} works now",
    "changed the password from {password} to {password}",
    "<password>{password}</password>",
    "PGPASSWORD={password} psql",
    "Password - {password}",
    "DB_PASS: {password}",
    "log in as jo with password {password}",
    "{\\\"password\\\": \\\"{password}\\\"}",
    "APP_SECRET={random}",
    "the client_secret is {random}",
    "signing key {random}",
    "X-API-Key: {random}",
    "Authorization: Basic {basic}",
    "bot token {bot}",
    "{bot}",
    "SSN#{ssn}",
    "credit score of {ssn}",
    "Passport #{passport}",
    "passport id {passport}",
    "N.H.S. number {nhs}",
    "HMRC wrote about {nino}",
    "({strong})",
    "({intl})",
    "{intl}-Fax",
    "☎ {strong}",
    "Jo Miller\nT: {phone}\nE: {email}",
    "my new number is {strong}",
    "their number is {intl}, I think",
    "caller_id={strong}",
    "nmap -sV {ip}",
    "?to={escaped}&x=1",
    "I sent the coins to {wallet} by mistake",
    "ich bin am {birth} geboren",
    "username: jo password: {plain}",
    "born {birth}; admitted 2024-03-01",
    "They must change their password: {email}, {email}.",
    "ID 70206\n{strong}",
    "Price;{strong};London",
];

/// Every sentence with `rounds` values each, and half as many that have none.
pub(crate) fn corpus(seed: u64, rounds: usize) -> Vec<Sentence> {
    let c = &mut Chance(seed);
    let mut all: Vec<Sentence> =
        SENTENCES.iter().flat_map(|form| (0..rounds).map(|_| filled(form, c)).collect::<Vec<_>>()).collect();
    for _ in 0..all.len() / 2 {
        all.push(Sentence { text: negative(c), spans: Vec::new() });
    }
    all
}

fn filled(form: &str, c: &mut Chance) -> Sentence {
    let mut sentence = Sentence { text: String::new(), spans: Vec::new() };
    let mut rest = form;
    while let Some(at) = rest.find('{') {
        sentence.text.push_str(&rest[..at]);
        rest = &rest[at..];
        let word = rest
            .find('}')
            .map(|end| &rest[1..end])
            .filter(|word| word.bytes().all(|b| b.is_ascii_lowercase()));
        let Some(word) = word.filter(|word| !word.is_empty()) else {
            sentence.text.push('{');
            rest = &rest[1..];
            continue;
        };
        let start = sentence.text.len();
        sentence.text.push_str(&value(word, c));
        let names = [
            "email", "phone", "card", "iban", "ssn", "nhs", "nino", "passport", "ip", "birth", "wallet",
            "secret",
        ];
        let kind = match word {
            "password" | "plain" | "random" | "basic" | "bot" => "secret",
            "escaped" => "email",
            _ => names.into_iter().find(|name| *name == word).unwrap_or("phone"),
        };
        sentence.spans.push((kind, start..sentence.text.len()));
        rest = &rest[word.len() + 2..];
    }
    sentence.text.push_str(rest);
    sentence
}

#[expect(clippy::too_many_lines, reason = "a row for each kind of sentence")]
/// What people and programs write that is no personal data.
fn negative(c: &mut Chance) -> String {
    let d = |c: &mut Chance, count| c.digits(count);
    match c.below(80) {
        0 => format!("Order number {} has shipped", {
            let size = [8, 9, 10, 12, 13][c.below(5)];
            d(c, size)
        }),
        1 => format!("order #{}-{}-{} delayed", d(c, 3), d(c, 7), d(c, 7)),
        2 => format!("Upgrade to version {}.{}.{}.{}", c.below(30), c.below(20), c.below(20), c.below(255)),
        3 => format!("ISBN 978-{}-{}-{}-{}", c.below(9), d(c, 3), d(c, 5), d(c, 1)),
        4 => format!("ISBN-10: {}-{}-{}-X", c.below(9), d(c, 3), d(c, 5)),
        5 | 6 => format!(
            "{} {}-{}-4{}-a{}-{}",
            ["id", "trace"][c.below(2)],
            c.hex(8),
            c.hex(4),
            c.hex(3),
            c.hex(3),
            c.hex(12)
        ),
        7 => format!("at 2024-0{}-1{}T10:{}:07Z the job failed", c.from(1, 9), c.below(9), c.from(10, 59)),
        8 => format!("epoch 1{}", d(c, 9)),
        9 => format!("timestamp: 1{}", d(c, 12)),
        10 => format!("It costs ${},{}.{} in total", c.from(1, 999), d(c, 3), d(c, 2)),
        11 => format!("sha256 {}", c.hex(64)),
        12 => format!("commit {} broke it", c.hex(40)),
        13 => format!("md5: {}", c.hex(32)),
        14 => format!("coordinates {}.{}, -{}.{}", c.below(90), d(c, 6), c.below(180), d(c, 6)),
        15 => format!("IMEI 35{}", d(c, 13)),
        16 => format!("serial SN-{}-{}-{}", d(c, 4), d(c, 4), d(c, 4)),
        17 => format!("Invoice INV-2024-{} is due", d(c, 6)),
        18 => format!("Tracking 1Z{}", c.of(&(CAPITALS.to_owned() + DIGITS), 16)),
        19 => format!("tracking number 9400 1{} {} {} {} {}", d(c, 3), d(c, 4), d(c, 4), d(c, 4), d(c, 2)),
        20 => format!("The meeting is on 2025-0{}-2{} at 10:30", c.from(1, 9), c.below(8)),
        21 => format!("From 19{} to 20{} it grew to {} people", d(c, 2), d(c, 2), d(c, 7)),
        22 => format!("Room {}, floor {}, building {}", d(c, 3), d(c, 1), d(c, 2)),
        23 => format!("SKU {}-{}-{}", c.of(CAPITALS, 3), d(c, 5), c.of(CAPITALS, 2)),
        24 => {
            format!("mac {}:{}:{}:{}:{}:{} seen", c.hex(2), c.hex(2), c.hex(2), c.hex(2), c.hex(2), c.hex(2))
        }
        25 => format!("The score was {}-{}", c.below(120), c.below(120)),
        26 => format!("see section {}.{}.{}.{}", c.from(1, 12), c.from(1, 9), c.from(1, 9), c.from(1, 9)),
        27 => format!("ratio 0.{}", d(c, 16)),
        28 => "pi is 3.141592653589793 and e 2.718281828459045".into(),
        29 => format!("@user{} posted this", d(c, 3)),
        30 => format!("npm i lodash@4.{}.{}", c.below(20), c.below(20)),
        31 => "git clone git@github.com:org/repo.git".into(),
        32 => "logo@2x.png is blurry".into(),
        33 => format!("hex color #{}", c.hex(6)),
        34 => format!("part no. {}{}{}", c.of(CAPITALS, 2), d(c, 6), c.of("ABCD", 1)),
        35 => format!("flight {}{} gate B{}", c.of(CAPITALS, 2), d(c, 4), d(c, 2)),
        36 => format!("listen on 0.0.0.0:{} or 127.0.0.1", d(c, 4)),
        37 => "netmask 255.255.255.0, network 10.20.30.0/24".into(),
        38 => format!("password must be at least {} characters", c.from(8, 16)),
        39 => format!("the token limit is {}", c.from(1000, 200_000)),
        40 => "reset your password here: https://example.com/reset".into(),
        41 => format!("max_tokens: {}, temperature: 0.7", d(c, 4)),
        42 => "std::vector<int> a::b::c; cafe::add(face)".into(),
        43 => "Between 10:00 and 12:30 on 5/6".into(),
        44 => format!("case no. {}-{}", d(c, 2), d(c, 5)),
        45 => format!(
            "Lottery numbers: {:02} {:02} {:02} {:02} {:02} {:02}",
            c.from(1, 49),
            c.from(1, 49),
            c.from(1, 49),
            c.from(1, 49),
            c.from(1, 49),
            c.from(1, 49)
        ),
        46 => format!("The company was founded on 19{}-0{}-11", d(c, 2), c.from(1, 9)),
        47 => format!("model XR-{}-{}", d(c, 4), d(c, 4)),
        48 => format!("{},{},{} people", c.from(1, 999), d(c, 3), d(c, 3)),
        49 => format!("docker pull app@sha256:{}", c.hex(64)),
        50 => format!("transaction {} completed", d(c, 12)),
        51 => format!("doi:10.{}/{}.{}", d(c, 4), c.of("abcdef", 6), d(c, 6)),
        52 => "the passport office opens at 9:00 on 2024-05-11; the fee is 130".into(),
        53 => {
            "password: <your-password>, token: ${TOKEN}, api_key=xxxxxxxx, secret: process.env.SECRET".into()
        }
        54 => format!("binary 0b{} = 0x{}", c.of("01", 16), c.hex(8)),
        55 => "if password == confirm_password: save()".into(),
        56 => "const password = req.body.password; password=%(password)s".into(),
        57 => "postgres://user:<password>@host/db and mysql://$USER:$PASS@host".into(),
        58 => "password hashing with argon2 or bcrypt, sha256 is too fast".into(),
        59 => format!("key-concepts-of-20{}-for-large-scale-systems", d(c, 2)),
        60 => "ssh://git@github.com/org/repo.git".into(),
        61 => "deploy@web-3.example.com:~$ ls; scp x deploy@web-3.example.com:/srv".into(),
        62 => format!("[{}.{}] usb 1-1: new device", d(c, 4), d(c, 6)),
        63 => format!("UPC {} {} {} {}", d(c, 1), d(c, 5), d(c, 5), d(c, 1)),
        64 => format!("EIN {}-{}", d(c, 2), d(c, 7)),
        65 => format!("DUNS {}-{}-{}", d(c, 2), d(c, 3), d(c, 4)),
        66 => format!("firmware {}{}{}", c.of("ABCEGHJ", 2), d(c, 6), c.of("ABCD", 1)),
        67 => format!("product code {}-{}-{}", d(c, 3), d(c, 3), d(c, 4)),
        68 => format!("item {}-{}-{} is sold out", d(c, 3), d(c, 2), d(c, 4)),
        69 => format!("UPS {} {} {} is on its way", d(c, 4), d(c, 4), d(c, 4)),
        70 => format!("contract bytecode 0x{}", c.hex(40)),
        71 => format!("Total: {}.{}.{},{} EUR", c.from(1, 99), d(c, 3), d(c, 3), d(c, 2)),
        72 => format!("CAS {}-{}-{}", d(c, 5), d(c, 2), d(c, 1)),
        73 => format!("Bestellnummer {}, Kundennummer {}", d(c, 9), d(c, 8)),
        74 => "The token is refreshed by getAccessTokenFromStore(session)".into(),
        75 => "Authorization: Basic <credentials>".into(),
        76 => format!("container MSCU{} at berth {}", d(c, 7), d(c, 2)),
        77 => format!("see §{} Abs. {} and RFC {}", d(c, 3), d(c, 1), d(c, 4)),
        78 => "Password: required. The password is case-sensitive and must be changed on first login".into(),
        _ => format!("batch {} {} {} {} approved", d(c, 4), d(c, 4), d(c, 4), "1237"),
    }
}
