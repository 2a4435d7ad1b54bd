//! Values of each type, made by chance from a seed, with their check digits right.
use sha2::{Digest, Sha256};

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Chance(pub(crate) u64);

pub(crate) const DIGITS: &str = "0123456789";
pub(crate) const CAPITALS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
pub(crate) const MIXED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &str = "0123456789abcdef";

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
    pub(crate) fn from(&mut self, start: usize, end: usize) -> usize {
        start + self.below(end - start + 1)
    }
    pub(crate) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
    pub(crate) fn of(&mut self, signs: &str, count: usize) -> String {
        let signs: Vec<char> = signs.chars().collect();
        (0..count).map(|_| signs[self.below(signs.len())]).collect()
    }
    pub(crate) fn digits(&mut self, count: usize) -> String {
        self.of(DIGITS, count)
    }
    pub(crate) fn hex(&mut self, count: usize) -> String {
        self.of(HEX, count)
    }
    /// A form with chance in it: `#` a digit, `%` one from 1 to 9, `N` one from 2 to 9.
    pub(crate) fn form(&mut self, form: &str) -> String {
        let sign = |c: char| match c {
            '#' => self.digits(1),
            '%' => self.from(1, 9).to_string(),
            'N' => self.from(2, 9).to_string(),
            other => other.to_string(),
        };
        form.chars().map(sign).collect()
    }
}

#[expect(clippy::too_many_lines, reason = "a row for each type")]
/// The value of a type; `phone` is a national number that something must announce.
pub(crate) fn value(kind: &str, c: &mut Chance) -> String {
    match kind {
        "email" => email(c),
        "intl" => {
            let forms = [
                "+1 (N##) N##-####",
                "+1-N##-N##-####",
                "+1 N## N## ####",
                "+1N##N######",
                "+44 20 7### ####",
                "+44 7### ######",
                "+44 (0)20 7### ####",
                "+49 30 %#######",
                "+49 151 %#######",
                "+49 (0)89 %######",
                "+33 6 ## ## ## ##",
                "+33 1 ## ## ## ##",
                "+34 6## ### ###",
                "+39 3## #######",
                "+31 6 ########",
                "+91 9#### #####",
                "+55 11 9####-####",
                "+81-90-####-####",
                "+86 13# #### ####",
                "+61 4## ### ###",
                "+46 70 ### ## ##",
                "+48 5## ### ###",
                "+7 912 ###-##-##",
                "+82 10-####-####",
                "+65 8### ####",
                "+353 86 ### ####",
                "+41 79 ### ## ##",
                "0049 30 %######",
                "+1 N##.N##.####",
            ];
            let form = c.one(&forms);
            c.form(form)
        }
        "strong" => {
            let forms = [
                "(N##) N##-####",
                "N##-N##-####",
                "N##.N##.####",
                "1-N##-N##-####",
                "020 7### ####",
                "07### ######",
                "0161 496 0###",
                "06 ## ## ## ##",
                "01.##.##.##.##",
                "030 / %######",
                "0171-%######",
                "06-########",
                "079 ### ## ##",
                "090-%###-####",
                "03-%###-####",
                "(11) 9####-####",
                "8 (912) ###-##-##",
                "138 #### ####",
                "0412 ### ###",
                "070-### ## ##",
            ];
            let form = c.one(&forms);
            c.form(form)
        }
        "phone" => {
            let forms = [
                "N##N######",
                "N##-####",
                "N## N## ####",
                "0171%######",
                "3## #######",
                "6## ### ###",
                "9#### #####",
                "4## ## ###",
                "%# ## ## ##",
                "5## ### ###",
                "9### ####",
                "13#########",
                "07#########",
                "(N##) N##-#### x###",
                "N##-N##-#### ext. ##",
                "0################".get(..10).unwrap_or("0#########"),
            ];
            let form = c.one(&forms);
            c.form(form)
        }
        "card" => card(c),
        "iban" => iban(c),
        "ssn" => {
            let area = loop {
                let area = c.from(1, 899);
                if area != 666 {
                    break area;
                }
            };
            let by = c.one(&["-", "-", "-", " "]);
            format!("{area:03}{by}{:02}{by}{:04}", c.from(1, 99), c.from(1, 9999))
        }
        "nhs" => loop {
            let nine = c.form("%########");
            let sum: u32 =
                nine.bytes().zip((2..=10).rev()).map(|(b, weight)| u32::from(b - b'0') * weight).sum();
            let check = (11 - sum % 11) % 11;
            if check < 10 {
                let all = format!("{nine}{check}");
                let parted = |by: &str| format!("{}{by}{}{by}{}", &all[..3], &all[3..6], &all[6..]);
                return match c.below(3) {
                    0 => all,
                    1 => parted(" "),
                    _ => parted("-"),
                };
            }
        },
        "nino" => {
            let letters = loop {
                let letters = c.of("ABCEGHJKLMNOPRSTWXYZ", 1) + &c.of("ABCEGHJKLMNPRSTWXYZ", 1);
                if !["BG", "GB", "NK", "KN", "TN", "NT", "ZZ"].contains(&&*letters) {
                    break letters;
                }
            };
            let last = c.of("ABCD", 1);
            let form = c.one(&["######", " ## ## ## ", "-##-##-##-"]);
            letters + &c.form(form) + &last
        }
        "passport" => {
            let forms = [
                "A########",
                "B#######",
                "#########",
                "AB#######",
                "##AB#####",
                "AAC######",
                "C%%X##T4#",
                "AB ######",
                "L########",
                "PA#######",
            ];
            let form = c.one(&forms);
            c.form(form)
        }
        "ip" => match c.below(4) {
            0 => format!("2001:db8:{}:{}::{}", c.hex(4), c.hex(3), c.from(1, 99)),
            1 => (0..8)
                .map(|_| c.from(0x1000, 0xffff))
                .map(|group| format!("{group:x}"))
                .collect::<Vec<_>>()
                .join(":"),
            _ => format!("{}.{}.{}.{}", c.from(11, 126), c.below(256), c.below(256), c.from(1, 254)),
        },
        "birth" => birth(c),
        "wallet" => wallet(c),
        "secret" => secret(c),
        "password" => password(c),
        "plain" => ["letmein", "sunshine", "kartoffel", "dragonfly"][c.below(4)].into(),
        "random" => {
            let signs = [MIXED, HEX, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"];
            let signs = c.one(&signs);
            let size = [24, 32, 40, 64][c.below(4)];
            // Some of nothing but letters are words of a sort.
            c.of(signs, size - 2) + "7x"
        }
        "basic" => {
            ["dXNlcjpodW50ZXIyIQ==", "YWRtaW46UzNjcjN0IQ==", "am86dzByZHNAaG9tZQ=="][c.below(3)].into()
        }
        "bot" => match c.below(2) {
            0 => format!("{}:AA{}x", c.form("%#########"), c.of(MIXED, 32)),
            _ => format!("MTA{}q8.{}.{}aB", c.of(MIXED, 21), c.of(MIXED, 6), c.of(MIXED, 30)),
        },
        "escaped" => format!("{}%40{}.org", c.of("abcdefgh", 6), c.of("klmnop", 5)),
        other => panic!("no type `{other}`"),
    }
}

/// As people choose them, and as programs make them.
fn password(c: &mut Chance) -> String {
    let words = ["Sommer", "hunter", "Falcon", "pa55word", "blue_Car", "Kaffee"];
    let word = c.one(&words);
    match c.below(5) {
        0 => format!("{word}{}!", c.digits(4)),
        1 => format!("{}{}#{}", c.of(MIXED, 5), c.digits(1), c.of(MIXED, 4)),
        2 => format!("{word}{}", c.digits(3)),
        3 => format!("Xk{}-{}", c.digits(2), c.of(MIXED, 8)),
        _ => format!("{}${}@{}", c.of("abcdefgh", 4), c.of(CAPITALS, 3), c.digits(2)),
    }
}

fn email(c: &mut Chance) -> String {
    let names = [
        "jane",
        "li.wei",
        "o.müller",
        "info+tag",
        "b_s",
        "x",
        "j-p.roux",
        "anna.kowalska",
        "kontakt",
        "a1b2",
        "firstname.lastname",
        "D.OBrien",
    ];
    let domains = [
        "gmail.com",
        "example.org",
        "firma.de",
        "mail.corp.example.co.uk",
        "uni-muenchen.de",
        "acme.io",
        "sub.domain.museum",
        "163.com",
        "yandex.ru",
        "bücher.example",
        "xn--bcher-kva.example",
    ];
    let (name, domain) = (c.one(&names), c.one(&domains));
    format!("{name}{}@{domain}", if c.below(2) == 0 { c.digits(2) } else { String::new() })
}

fn card(c: &mut Chance) -> String {
    let (head, size) = [
        ("4", 16),
        ("51", 16),
        ("55", 16),
        ("2221", 16),
        ("2720", 16),
        ("34", 15),
        ("37", 15),
        ("6011", 16),
        ("65", 16),
        ("3528", 16),
        ("36", 14),
        ("62", 16),
    ][c.below(12)];
    let body = head.to_owned() + &c.digits(size - head.len() - 1);
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, b)| {
            let digit = u32::from(b - b'0') * if at % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    let all = format!("{body}{}", (10 - sum % 10) % 10);
    let sizes: &[usize] = if size == 16 { &[4, 4, 4, 4] } else { &[4, 6, size - 10] };
    let by = c.one(&["", "", " ", "-", "\u{a0}", "\u{2011}", "full"]);
    if by == "full" {
        return all.chars().map(|d| char::from_u32(d as u32 + 0xfee0).unwrap()).collect();
    }
    let mut rest = &*all;
    let parts = sizes.iter().map(|size| {
        let (part, more) = rest.split_at(*size);
        rest = more;
        part
    });
    parts.collect::<Vec<_>>().join(by)
}

fn iban(c: &mut Chance) -> String {
    let (country, body) = [
        ("DE", "##################"),
        ("GB", "WEST##############"),
        ("FR", "#######################"),
        ("ES", "####################"),
        ("NL", "ABNA##########"),
        ("IT", "X######################"),
        ("CH", "#################"),
        ("PL", "########################"),
        ("NO", "###########"),
        ("BE", "############"),
        ("AT", "################"),
        ("SE", "####################"),
        ("MT", "MALT#######################"),
        ("SA", "####################"),
    ][c.below(14)];
    let body = c.form(body);
    let number: String =
        format!("{body}{country}00").chars().map(|sign| sign.to_digit(36).unwrap().to_string()).collect();
    let rest = number.bytes().fold(0_u32, |rest, b| (rest * 10 + u32::from(b - b'0')) % 97);
    let all = format!("{country}{:02}{body}", 98 - rest);
    let by = c.one(&["", " ", " ", "-"]);
    let all =
        all.as_bytes().chunks(4).map(|part| std::str::from_utf8(part).unwrap()).collect::<Vec<_>>().join(by);
    if c.below(8) == 0 { all.to_lowercase() } else { all }
}

fn birth(c: &mut Chance) -> String {
    let (year, month, day) = (c.from(1925, 2019), c.from(1, 12), c.from(1, 28));
    let name = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ][month - 1];
    match c.below(10) {
        0 => format!("{year}-{month:02}-{day:02}"),
        1 => format!("{day:02}/{month:02}/{year}"),
        2 => format!("{month}/{day}/{year}"),
        3 => format!("{day:02}.{month:02}.{year}"),
        4 => format!("{day} {name} {year}"),
        5 => format!("{name} {day}, {year}"),
        6 => format!("{} {day:02}, {year}", &name[..3]),
        7 => format!("{day:02}-{}-{year}", &name[..3]),
        8 => format!("{day}{} of {name} {year}", ["th", "st", "nd"][c.below(3)]),
        _ => format!("{year}/{month:02}/{day:02}"),
    }
}

fn wallet(c: &mut Chance) -> String {
    let hash: Vec<u8> = (0..20).map(|_| c.below(256) as u8).collect();
    if c.below(3) == 0 {
        return format!("0x{}", hash.iter().map(|b| format!("{b:02x}")).collect::<String>());
    }
    let mut bytes = vec![[0, 5, 0x30, 0x41, 0x1e][c.below(5)]];
    bytes.extend(hash);
    let sum = Sha256::digest(Sha256::digest(&bytes));
    bytes.extend(&sum[..4]);
    let alphabet = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits: Vec<u8> = Vec::new();
    for byte in &bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let ones = std::iter::repeat_n('1', zeros);
    ones.chain(digits.iter().rev().map(|digit| char::from(alphabet[usize::from(*digit)]))).collect()
}

fn secret(c: &mut Chance) -> String {
    let long = MIXED.to_owned() + "_-";
    match c.below(16) {
        0 => format!("sk-{}", c.of(MIXED, 48)),
        1 => format!("sk-proj-{}7x", c.of(&long, 60)),
        2 => format!("sk-ant-api03-{}9A", c.of(&long, 80)),
        3 => format!("AKIA{}", c.of(&(CAPITALS.to_owned() + DIGITS), 16)),
        4 => format!("AIza{}x", c.of(&long, 34)),
        5 => format!("ghp_{}", c.of(MIXED, 36)),
        6 => format!("xoxb-{}-{}-{}", c.digits(12), c.digits(12), c.of(MIXED, 24)),
        7 => format!("sk_live_{}", c.of(MIXED, 24)),
        8 => format!("eyJ{}.eyJ{}.{}k", c.of(MIXED, 30), c.of(MIXED, 60), c.of(&long, 42)),
        9 => format!("github_pat_{}_{}", c.of(MIXED, 22), c.of(MIXED, 59)),
        10 => format!("postgres://app:{}@db.internal:5432/prod", c.of(MIXED, 12)),
        11 => format!("mongodb+srv://root:{}@cluster0.example.net/x", c.of(MIXED, 10)),
        12 => format!("npm_{}", c.of(MIXED, 36)),
        13 => format!("hf_{}", c.of(MIXED, 34)),
        14 => format!("SG.{}.{}", c.of(MIXED, 22), c.of(MIXED, 43)),
        _ => format!(
            "-----BEGIN RSA PRIVATE KEY-----\n{}\n{}\n-----END RSA PRIVATE KEY-----",
            c.of(MIXED, 64),
            c.of(MIXED, 40)
        ),
    }
}
