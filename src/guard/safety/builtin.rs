//! The rules that come with the program, by the categories of OpenAI's moderation API.
//!
//! They are about what somebody wants to do or says to somebody, not about words:
//! a text about a crime is no crime. English only; the other languages are the
//! moderation service's business.

/// A category and its patterns, in lower case, each with a longest match.
pub(super) const RULES: &[(&str, &[&str])] = &[
    (
        "self-harm",
        &[
            r"(?:i|i'm going to|i am going to|i want to|i will|i wanna|how (?:do i|to|can i)) (?:kill|hang|harm|hurt|cut) myself",
            r"i (?:want|wish|would like) to (?:die|be dead|end my life|commit suicide)",
            r"how (?:do i|to|can i|would one) (?:commit suicide|end my (?:own )?life|overdose|die painlessly)",
            r"(?:painless|easiest|best|quickest) ways? to (?:commit suicide|kill myself|end my life|die by suicide)",
        ],
    ),
    (
        "sexual/minors",
        &[
            r"(?:child|kiddie|underage|preteen|infant|toddler) (?:porn|pornography|erotica|nudes?|sex (?:videos?|stories|story|pics))",
            r"(?:nude|naked|erotic|sexual|porn|pornographic|explicit) (?:photos?|pictures?|images?|pics|videos?|stor(?:y|ies)|content) (?:of|with|about|featuring) (?:a |an |the |my |some )?(?:young |little )?(?:child|children|kids?|minors?|underage|preteens?|toddlers?|schoolgirls?|schoolboys?)",
            r"(?:have sex with|seduce|groom) (?:a |an |my |the )?(?:child|minor|kid|underage (?:girl|boy)|1[0-5][- ]year[- ]old)",
        ],
    ),
    (
        "violence",
        &[
            r"(?:how (?:do i|to|can i|would i)|help me|best way to|i (?:want|am going|plan|intend) to|i will|i'm going to|i'm gonna) (?:kill|murder|poison|strangle|stab|shoot|assassinate|torture) (?:someone|somebody|a person|people|him|her|them|my (?:wife|husband|boss|neighbou?r|girlfriend|boyfriend|mother|father|brother|sister|ex|classmates?|coworkers?))",
            r"(?:shoot up|blow up|bomb) (?:a|the|my|our) (?:school|church|mosque|synagogue|hospital|mall|airport|train|concert|embassy)",
        ],
    ),
    (
        "illicit/violent",
        &[
            r"(?:how (?:do i|to|can i|do you|would one)|steps to|instructions (?:to|for)|recipe (?:to|for)|guide to|teach me to|show me how to|help me) (?:build|make|making|construct|assemble|building|creating|create) (?:a |an |some )?(?:homemade |improvised )?(?:pipe |nail |dirty |car |fertili[sz]er |letter |nuclear )?(?:bombs?|explosives?|ied|grenades?|molotov(?: cocktails?)?|nerve (?:agent|gas)|sarin|ricin|chemical weapons?|biological weapons?|ghost guns?|silencers?|napalm)",
        ],
    ),
    (
        "illicit",
        &[
            r"(?:how (?:do i|to|can i|do you|would one)|steps to|instructions (?:to|for)|recipe for|guide to|teach me to|show me how to|help me) (?:cook|make|synthesi[sz]e|produce|manufacture|cooking|making) (?:crystal )?(?:meth|methamphetamine|heroin|fentanyl|crack cocaine|cocaine|mdma|lsd|ghb)",
            r"(?:write|create|code|give|make|develop|build)(?: me)?(?: a| an| some)? (?:working |undetectable )?(?:ransomware|keylogger|computer virus|rootkit|trojan|malware|phishing (?:e-?mail|page|site)|botnet)",
            r"how (?:do i|to|can i) (?:launder money|hot-?wire a car|forge (?:a passport|an id|documents)|counterfeit (?:money|cash|bills)|steal (?:a car|someone's identity|credit card numbers?|passwords)|hack (?:into )?(?:someone's|my \w{2,12}'s|a bank|an? (?:facebook|instagram|bank|email|gmail|snapchat) account))",
            r"where (?:can i|do i|to) (?:buy|get|order) (?:illegal (?:drugs|guns|weapons)|stolen credit cards?|a fake (?:passport|id|driver'?s licen[cs]e)|cocaine|heroin|fentanyl)",
        ],
    ),
    (
        "hate",
        &[
            r"(?:kill|exterminate|gas|hang|shoot|deport|enslave) all (?:the )?(?:jews|muslims|christians|blacks|whites|gays|lesbians|immigrants|mexicans|asians|arabs|gypsies|trans people|refugees)",
            r"(?:jews|muslims|blacks|gays|lesbians|immigrants|mexicans|asians|arabs|gypsies|women|trans people|refugees) (?:are|should be) (?:subhumans?|vermin|parasites|cockroaches|animals|an inferior race|inferior|exterminated|gassed|enslaved)",
        ],
    ),
    (
        "harassment",
        &[
            r"(?:go |just |please )?(?:kill yourself|kys|hang yourself|neck yourself|drink bleach)",
            r"(?:you|u) (?:are|r|'re) (?:a |such a )?(?:worthless|pathetic|disgusting|useless) (?:piece of (?:shit|garbage|trash)|whore|bitch|cunt|human being)",
        ],
    ),
    (
        "harassment/threatening",
        &[
            r"i(?:'m going to|'ll| will| am going to|'m gonna) (?:kill|murder|find and kill|beat up|stab|shoot|rape) (?:you|your (?:family|kids|children|wife|mother))",
        ],
    ),
    (
        "sexual",
        &[
            r"(?:write|tell|generate|create|describe|roleplay)(?: me)?(?: a| an| some| in)? (?:very |extremely |graphic |detailed |explicit ){0,2}(?:explicit|graphic|hardcore|pornographic|xxx|smutty) (?:sex|sexual|porn|erotic|bdsm)? ?(?:scene|story|stories|roleplay|content|fantasy|detail)",
            r"(?:hardcore|amateur|free) porn(?:ography)?(?: videos?)?",
        ],
    ),
];
