//! The words that announce personal data, speak against it, or begin a secret.
//! All are looked for in one pass.
use std::{collections::HashMap, sync::LazyLock};

use super::trie::Trie;

/// What a word announces; a set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class(u32);

impl Class {
    pub(super) const NONE: Self = Self(0);
    pub(super) const PHONE: Self = Self(1);
    /// May be about telephones, and about much else.
    pub(super) const CALL: Self = Self(1 << 1);
    pub(super) const SSN: Self = Self(1 << 2);
    pub(super) const NHS: Self = Self(1 << 3);
    pub(super) const NINO: Self = Self(1 << 4);
    pub(super) const PASSPORT: Self = Self(1 << 5);
    pub(super) const BIRTH: Self = Self(1 << 6);
    pub(super) const CARD: Self = Self(1 << 7);
    pub(super) const WALLET: Self = Self(1 << 8);
    pub(super) const IP: Self = Self(1 << 9);
    /// Announces a password, which may look like anything.
    pub(super) const PASSWORD: Self = Self(1 << 10);
    /// Announces a key or a token, which look like chance.
    pub(super) const KEY: Self = Self(1 << 11);
    /// Announces numbers that belong to things.
    pub(super) const THING: Self = Self(1 << 12);
    /// Announces versions and places in documents.
    pub(super) const VERSION: Self = Self(1 << 13);
    /// Announces digests and other ids that look like chance.
    pub(super) const DIGEST: Self = Self(1 << 14);
    /// Begins a secret.
    pub(super) const PREFIX: Self = Self(1 << 15);
    /// Begins a private key in PEM.
    pub(super) const PEM: Self = Self(1 << 16);
    /// Stands between a URL's scheme and the rest.
    pub(super) const URL: Self = Self(1 << 17);
    /// An at sign that is written out.
    pub(super) const AT: Self = Self(1 << 18);
    /// Announces a name.
    pub(super) const PERSON: Self = Self(1 << 19);
    /// A kind of street.
    pub(super) const STREET: Self = Self(1 << 20);
    /// Takes a login: a command, or a way to sign in.
    pub(super) const LOGIN: Self = Self(1 << 21);
    /// Short for a birth, and for much else.
    pub(super) const BORN: Self = Self(1 << 22);
    /// Announces a password as the name of a field, and means much else in a sentence.
    pub(super) const FIELD: Self = Self(1 << 23);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A word in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub start: usize,
    pub end: usize,
    pub class: Class,
}

/// The words, parted by white space; `_` stands for a space, a `|` at the end asks for the word to end there.
const WORDS: &[(Class, &str)] = &[
    (
        Class::PHONE,
        "phone telephone tel| tel.| tel:| tel_no| mobile cellphone cell_phone cell:| cell_number cell_is| cellular fax landline whatsapp \
         hotline helpline sms| msisdn contact_number contact_no| contact_no. ☎ 📞 📱 📲 number_to_reach best_number callback_number telefon telefoon handy| handynummer mobil| mobilnummer \
         mobiel rufnummer mobilfunk festnetz téléphone mobile portable_: portable:| portable_est numéro_de_tél tél| tél.| tél:| joindre_au teléfono telefono \
         móvil movil celular celulare cellulare fijo| telefone telemóvel telemovel telefonnummer puhelin puhelinnumero \
         komórk numer_telefonu tlf| tlf.| телефон Телефон тел.| Тел.| тел:| мобильный Мобильный сотовый номер_тел 电话 電話 手机 手機 \
         携帯 联系方式 전화 휴대폰 연락처 هاتف جوال फोन telefonu cep_tel cep:| ph:| ph.| direct:| call_or_text text_or_call caller_id emergency_number emergency_contact new_number| area_code country_code dialling_code",
    ),
    (
        Class::CALL,
        "call| called| calling| call_me dial| ring| ring_me text| text_me texted| reach| reached| reachable contact| contact: viber signal| telegram| \
         voicemail anrufen erreichbar ruf_mich appelez appeler joindre llama| llámame llamar chiamare chiamami chiama| ligue| ligar bel_me| bellen zadzwoń \
         позвони звони 致电 拨打 extension| pager imessage my_number| my_numbers| his_number| her_number| your_number| their_number| our_number| \
         messages_to message_to home:| work:| office:| desk:| office_number callback| call_back| hotline| cell| contacted| answering_at| \
         my_nr| my_nr.| meine_nummer| meine_nr mijn_nummer mon_numéro mi_número il_mio_numero appelle| appelle-moi rappelez rappelle| rappelle-moi \
         rappeler rückruf_erbeten rückruf_unter um_rückruf| rückrufnummer kontakt_pod zadzwonić",
    ),
    (
        Class::SSN,
        "ssn| ssns| ssn: social_security social_sec soc_sec socialsecurity tax_id taxpayer_id tin| seguro_social ss#| ss_number ss_no",
    ),
    (Class::NHS, "nhs n.h.s national_health_service health_service_n"),
    (
        Class::NINO,
        "nino| ni| hmrc national_ins| national_insurance ni_number ni_no| ni_no. nin| ni:| insurance_number ni#|",
    ),
    (
        Class::PASSPORT,
        "passport passeport reisepass pasaporte passaporto passaporte paspoort paszport pass-nr passnummer paß| паспорт Паспорт 护照 護照 パスポート \
         旅券 여권 pasaport travel_document passport_no passport_id passport_ref pasport|",
    ),
    (
        Class::BIRTH,
        "dob| d.o.b date_of_birth birth_date birthdate dateofbirth born| birthday bday| b-day born_on geburtsdatum geboren_am geboren| \
         geb.| geburtstag geburtstag: né_le née_le né_à née_à né(e)_le né(e)| date_de_naissance naissance anniversaire fecha_de_nacimiento nacimiento nacido nacida nació cumpleaños \
         data_di_nascita nato_il nata_il nato_a nata_a nascita compleanno data_de_nascimento nascimento nascido nascida aniversário geboortedatum geboren_op \
         fødselsdato född födelsedatum født syntymäaika data_urodzenia urodzony urodzona urodził datum_narození narozen дата_рождения Дата_рождения рождения родился родилась д.р. 出生 \
         生年月日 誕生日 生日 생년월일 생일 doğum_tarihi doğum birth: birth_day dob: nací naci_el nasci| nasci_em nasci_no",
    ),
    (
        Class::CARD,
        "credit_card debit_card creditcard card_number card_no card_ending cardnumber card| cc| cc: pan| visa mastercard maestro amex american_express discover| diners jcb| \
         unionpay kreditkarte kartennummer carte| tarjeta carta_di_credito cartão karta karty credit_cards charge| paid_with paid_by payment_with expiry cvv cvc| 信用卡 カード番号 карты карта",
    ),
    (
        Class::WALLET,
        "wallet bitcoin btc| ethereum ether| eth| erc20 erc-20 usdt usdc metamask crypto litecoin ltc| dogecoin doge| solana sol| tron| trc20 trx| xrp| ripple monero xmr| \
         deposit_address receiving_address payout_address recipient donations donate donation send_to withdraw cold_storage ledger_address address on-chain tezos cardano polygon binance bnb| кошел solscan.io/account",
    ),
    (
        Class::IP,
        "ip| ip: ips| ipv4 ipv6 ip_address ipaddress client_ip remote_addr x-forwarded-for host| server| ping|",
    ),
    (
        Class::PASSWORD,
        "password passwd pgpassword dbpassword userpassword adminpassword rootpassword dbpass| dbpwd| pwd pass:| pass=| sshpass| rediscli_auth passphrase passcode passwort kennwort mot_de_passe mdp| contraseña contrasena senha parola_d'ordine wachtwoord lösenord hasło adgangskode salasana \
         пароль Пароль 密码 密碼 口令 パスワード パスコード 暗証番号 비밀번호 비번 암호: şifre requirepass masterauth identified_by palavra-passe convertto-securestring \
         wlan-schlüssel wlanschlüssel wifi-schlüssel wpa-schlüssel wpa2-schlüssel netzwerkschlüssel wlan-key wifi_key| wpa_key| wpa2_key| pw:| pw=| pw| parola| heslo",
    ),
    (
        Class::KEY,
        "secret token api_key apikey access_key accesskey auth_key authkey private_key privatekey signing_key signingkey encryption_key encryptionkey \
         client_secret credential bearer authorization clé_api clave_api api-schlüssel chave_de_api shared_key sharedkey accountkey account_key connection_string app_key appkey subscription_key subscriptionkey \
         master_key masterkey session_key sessionkey license_key webhook_secret logged_in_key nonce_key auth_salt logged_in_salt nonce_salt x-api-key 密钥 ключ jwt| sas_token sharedaccesskey hmac_key deploy_key service_key sessionid| jsessionid| phpsessid| connect.sid|",
    ),
    (
        Class::THING,
        "order| orders| order# order_no order_id order_number ordernumber invoice inv| inv# ticket tracking shipment shipped parcel package fedex ups| usps dhl| dpd| sku| isbn issn doi| imei imsi iccid serial s/n| part_no part_number part# part| \
         model| model_number item catalog product reference ref| ref.| ref: ref# case_no case_number case# docket batch lot| barcode ean| upc| gtin asin pmid transaction txn confirmation booking reservation flight vin| licence license plate| \
         account| account_number acct routing sort_code zip| zip_code postcode postal plz| customer_id customer_number user_id userid student_id employee_id member_id patient_id record_id id| ids| id: case_id request_id session_id trace_id timestamp epoch unix milliseconds bytes population revenue price| amount total| \
         usd| eur| gbp| chf| inr| jpy| cost| costs| balance score lottery coordinates latitude longitude lat| lon| lng| gps purchase_order po| po# bestellnummer bestellung rechnung auftrag kundennummer artikelnummer sendungsnummer aktenzeichen commande facture suivi référence \
         pedido factura ordine fattura numero_ordine encomenda заказ счет 订单 注文 주문 erp job| job_id pid| pids port| offset row| rows seed| iphone android measurement resolution pixels dimensions inventory asset contract policy_number claim tracking_number meter mac| standard| rfc din| iso patent petition bill_number warehouse aisle shelf slot schedule duration phone_model ein| vat| vat_id gstin steuernummer product_code item_code promo_code claim claims| p/n tariff hs_code abn| acn| siret siren| seriennummer zählernummer numéro_de_série n°_de_série duns| awb| air_waybill",
    ),
    (
        Class::VERSION,
        "version versions ver| ver. v| release released build| firmware driver_version upgrade upgraded update| updated kernel section sec.| § chapter clause figure table| appendix paragraph article| step| steps| subsection release_notes oid| \
         changelog changed_in since| semver patch| patched assembly runtime| sdk| package_version revision rev| rule| requirement heading numbered exercise",
    ),
    (
        Class::DIGEST,
        "commit bytecode calldata hash| hashes checksum sha| sha1 sha-1 sha256 sha-256 sha512 md5 digest uuid guid etag blake2 crc revision fingerprint object_id merkle transaction_hash tx_hash txid block_hash image@ integrity build_id blob nonce salt",
    ),
    (
        Class::PREFIX,
        "sk- sk_live_ sk_test_ rk_live_ rk_test_ pk_live_ whsec_ akia asia aroa aida agpa aiza ya29. gocspx- ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- gldt- glrt- xoxb- xoxp- xoxa- xoxr- xoxs- xoxe. xoxe- xapp- \
         sg. npm_ pypi- hf_ dop_v1_ doo_v1_ shpat_ shpss_ shpca_ dapi gsk_ xai- pplx- r8_ lin_api_ ntn_ hvs. hvb. dp.pt. dp.st. glsa_ glc_ nrak- atatt3 pscale_ pmak- age-secret-key- \
         eyj sq0atp- sq0csp- hooks.slack.com/services/ discord.com/api/webhooks/ figd_ sntrys_ rubygems_ cio_ tskey- fm2_ nvapi- tvly- lsv2_ sbp_ \
         dckr_pat_ dckr_oat_ xkeysib- xsmtpsib- ltai akid eaaa eaac eaab eaad key- pat-na1- pat-eu1- sl. tgp_v1_ rpa_ csk- jina_ phx_ nfp_ dt0c01. ops_eyj glptt- glft- glimt- glagent- glsoat- glcbt- akcp amzn.mws. abia acca xoxd- atctt3 cfpat- shppa_ fw_ sk_ fo1_ sgp_ phc_ tfp_",
    ),
    (Class::PREFIX.or(Class::KEY), "secret_"),
    (
        Class::LOGIN,
        "curl| basic| mysql| mysqldump| mysqladmin| mysqlimport| mariadb| mariadb-dump| sshpass| redis-cli| valkey-cli| docker_login| \
         podman_login| az_login| mongo| mongosh| mongodump| mongorestore| sqlcmd| ldapsearch| ldapmodify| ldapadd|",
    ),
    (Class::BORN, "b.|"),
    (Class::FIELD, "pass| pgpass| clave| redis.auth| redis_auth|"),
    (Class::PEM, "begin"),
    (Class::AT, "at"),
];

/// Words that are looked for only where names or street addresses are.
const WORDS_OF_PEOPLE: &[(Class, &str)] = &[
    (
        Class::PERSON,
        "mr| mr.| mrs| mrs.| ms.| miss| dr.| prof.| professor sir| dame| herr| frau| monsieur madame| mme| señor señora sr.| sra.| signor signora dear| hi| hello| name_is my_name_is called| i_am| i'm| this_is| \
         regards sincerely cheers| name: full_name fullname first_name last_name surname patient: patient| customer: client: employee: sender: recipient: contact: signed signed_by attn attn: ich_heiße je_m'appelle me_llamo mi_chiamo meu_nome_é",
    ),
    (
        Class::STREET,
        "street| st| st.| avenue| ave| ave.| road| rd| rd.| boulevard| blvd| blvd.| lane| ln| ln.| drive| dr| court| ct| place| pl| square| terrace| way| parkway| pkwy| highway| hwy| close| crescent| row| walk| \
         straße| strasse| str.| weg| platz| allee| gasse| rue| avenue| chemin| impasse| quai| calle| avenida| paseo| plaza| via| viale| corso| piazza| rua| travessa| praça| laan| straat| gracht|",
    ),
];

/// What a word announces.
#[derive(Default)]
struct Entry {
    /// However it goes on.
    loose: u32,
    /// Where it ends where it ends.
    exact: u32,
}

/// What matters in every text: what begins a secret, and what announces more than numbers.
const OPENERS: Class = Class::PASSWORD
    .or(Class::KEY)
    .or(Class::PREFIX)
    .or(Class::PEM)
    .or(Class::URL)
    .or(Class::LOGIN)
    .or(Class::AT)
    .or(Class::PASSPORT)
    .or(Class::BIRTH)
    .or(Class::BORN)
    .or(Class::FIELD);
const NAMES: Class = Class::PERSON.or(Class::STREET);

static TRIE: LazyLock<Option<Trie<Entry>>> = LazyLock::new(|| {
    let mut words: HashMap<String, Entry> = HashMap::new();
    let mut add = |text: String, class: Class, exact: bool| {
        let entry = words.entry(text.to_ascii_lowercase()).or_default();
        *(if exact { &mut entry.exact } else { &mut entry.loose }) |= class.0;
    };
    for (class, list) in WORDS.iter().chain(WORDS_OF_PEOPLE) {
        for word in list.split_whitespace() {
            let (text, exact) = word.strip_suffix('|').map_or((word, false), |word| (word, true));
            if class.meets(Class::PREFIX) || !text.contains('_') {
                // In the beginning of a secret an underscore is one.
                add(text.to_owned(), *class, exact);
            } else {
                // As people write it, and as programs name their fields.
                [" ", "_", "-", ""].iter().for_each(|by| add(text.replace('_', by), *class, exact));
            }
        }
    }
    // The words are fixed: a test says that they fit.
    Trie::new(words.into_iter().collect())
});

/// The words in a text, in order; those around numbers only where it has any.
pub(super) fn hits(text: &str, numbers: bool, people: bool) -> Vec<Hit> {
    // Nothing is allocated where nothing is found.
    let mut hits = Vec::new();
    let around = if numbers { !(OPENERS.0 | NAMES.0) } else { 0 };
    let wanted = OPENERS.0 | around | if people { NAMES.0 } else { 0 };
    let Some(trie) = &*TRIE else { return hits };
    let bytes = text.as_bytes();
    // All words, also within each other: what does not stand by itself must not hide what does.
    trie.each(bytes, &mut |start, end, entry| {
        let classes = (entry.loose | entry.exact) & wanted;
        if classes & SIGNS > 0 {
            hits.extend(sign(bytes, start, end, Class(classes & SIGNS)));
        }
        if classes & !SIGNS > 0 {
            let class = stands(text, start, end, entry) & wanted & !SIGNS;
            if class > 0 {
                hits.push(Hit { start, end, class: Class(class) });
            }
        }
    });
    let colons = memchr::memchr_iter(b':', bytes).filter(|at| bytes[*at..].starts_with(b"://"));
    hits.extend(colons.map(|at| Hit { start: at, end: at + 3, class: Class::URL }));
    if numbers {
        let signs = memchr::memchr_iter(b'@', bytes);
        hits.extend(signs.filter_map(|at| sign(bytes, at, at + 1, Class::AT)));
        // As addresses spell it.
        let percents = memchr::memchr_iter(b'%', bytes).filter(|at| bytes[*at..].starts_with(b"%40"));
        hits.extend(percents.map(|at| Hit { start: at, end: at + 3, class: Class::AT }));
    }
    if hits.len() > 1 {
        longest(&mut hits);
    }
    hits
}

/// Of words that stand at one place leaves the longest, in order.
fn longest(hits: &mut Vec<Hit>) {
    hits.sort_unstable_by_key(|hit| (hit.start, usize::MAX - hit.end));
    let mut end = 0;
    let mut same: Option<usize> = None;
    for at in 0..hits.len() {
        let hit = hits[at];
        match same {
            // The same word of two lists.
            Some(before) if hits[before].start == hit.start && hits[before].end == hit.end => {
                hits[before].class = hits[before].class.or(hit.class);
            }
            _ if hit.start >= end => {
                let next = same.map_or(0, |before| before + 1);
                hits[next] = hit;
                same = Some(next);
                end = hit.end;
            }
            _ => {}
        }
    }
    hits.truncate(same.map_or(0, |last| last + 1));
}

/// What is a word among signs: an at sign that is written out, the beginning of a key in PEM.
const SIGNS: u32 = Class::AT.0 | Class::PEM.0;

/// Such a word with its signs.
fn sign(bytes: &[u8], start: usize, end: usize, class: Class) -> Option<Hit> {
    const DASHES: &[u8] = b"-----";
    if class.meets(Class::PEM) {
        let start = start.checked_sub(DASHES.len()).filter(|at| bytes[*at..].starts_with(DASHES))?;
        return Some(Hit { start, end, class });
    }
    let around = (bytes[start.checked_sub(1)?], *bytes.get(end)?);
    let pairs =
        [(b'[', b']'), (b'(', b')'), (b'{', b'}'), (b'<', b'>'), (b' ', b' '), (b'_', b'_'), (b'-', b'-')];
    let brackets = if bytes[start] == b'@' { &pairs[..2] } else { &pairs };
    brackets.contains(&around).then_some(Hit { start: start - 1, end: end + 1, class })
}

/// What a word announces where it stands: some must stand by themselves.
fn stands(text: &str, start: usize, end: usize, entry: &Entry) -> u32 {
    let bytes = text.as_bytes();
    let ends = match bytes.get(end) {
        None => true,
        Some(after) if bytes[end - 1].is_ascii_alphanumeric() => {
            !after.is_ascii_alphabetic()
                || (after.is_ascii_uppercase() && bytes[end - 1].is_ascii_lowercase())
        }
        Some(_) => true,
    };
    let class = entry.loose | if ends { entry.exact } else { 0 };
    let first = bytes[start];
    let (word, secret) = match start.checked_sub(1).map(|at| bytes[at]) {
        None => (true, true),
        Some(before) => {
            let word = match before {
                // `userPhone` has the word, `iphone` has not.
                _ if first.is_ascii_uppercase() && before.is_ascii_lowercase() => end - start > 1,
                // After letters of scripts that know no spaces, and after digits, a word may begin.
                0..0x80 => !before.is_ascii_alphabetic(),
                _ => {
                    let before = text[..start].chars().next_back();
                    before.is_none_or(|c| !c.is_alphabetic() || super::text::is_wide(c))
                }
            };
            (word, !before.is_ascii_alphanumeric() && before != b'-')
        }
    };
    let mut stands = 0;
    if secret {
        stands |= class & Class::PREFIX.0;
    }
    if word {
        stands |= class & !Class::PREFIX.0;
    }
    stands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(text: &str, class: Class) -> usize {
        hits(text, true, true).iter().filter(|hit| hit.class.meets(class)).count()
    }

    #[test]
    fn the_words_fit() {
        assert!(TRIE.is_some());
    }

    #[test]
    fn words_stand_by_themselves_and_in_names_of_fields() {
        for text in [
            "phone",
            "Phone:",
            "user_phone",
            "userPhone",
            "phoneNumber",
            "电话",
            "我的电话是",
            "Telefonnummer",
        ] {
            assert_eq!(classes(text, Class::PHONE), 1, "{text}");
        }
        for text in ["headphones", "iPhone", "hotel 5", "tell me"] {
            assert_eq!(classes(text, Class::PHONE), 0, "{text}");
        }
        for text in ["api key", "API_KEY", "apiKey", "x-api-key"] {
            assert_eq!(classes(text, Class::KEY), 1, "{text}");
        }
        assert_eq!(classes("task-1 ask-2 risk-3", Class::PREFIX), 0);
        assert_eq!(classes("sk-abc", Class::PREFIX), 1);
    }
}
