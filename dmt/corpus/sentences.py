"""Sentences for the synthetic corpus: everyday words of our own choice, strung at random.

What is said does not matter, that every sound meets every other does. So sentences
are word sequences with the punctuation that makes espeak pause and raise its voice,
spiced with numbers (which each language reads in its own words) and made-up words.
"""

from __future__ import annotations

import numpy as np

_WORDS = {
    "en": """the a my your our this that every some of and but with from about before after in on under over
        I you we they people baby mother father brother friend doctor farmer judge robot puppy tiger elephant
        window bottle paper table picture river mountain garden bridge village summer winter morning evening
        music answer question problem number beautiful happy brave purple yellow heavy simple quiet famous
        small large huge warm cold above perhaps always never often very really quickly together
        bought thought brought found heard makes takes gives moves jumps watches believes forgets remembers
        opens closes pushes pulls builds breaks wants should would could might will have been was were are is
        house mouse choice boy voice noise toys fire wire chair share poor pure cure bird word world first
        good book look moon food blue shoe few view map mob pump beam bomb problem public pebble mumble
        five fifty valve favour violin vivid wave woven wish which wherever whisper washing measure vision
        children church chapter judge bridge changes thick thin thousand breathe although truth yesterday
        you young use music university onion million opinion oh ah wow yes no hello welcome please thank sorry""",
    "de": """der die das ein eine mein unser dieser und aber mit von über unter vor nach ich du wir sie Leute
        Mutter Vater Bruder Freund Arzt Bauer Hund Katze Pferd Vogel Fenster Flasche Papier Tisch Bild Fluss Berg
        Garten Brücke Dorf Sommer Winter Morgen Abend Musik Antwort Frage Zahl schön glücklich mutig gelb schwer
        einfach ruhig berühmt klein groß warm kalt vielleicht immer niemals oft sehr wirklich schnell zusammen
        kaufte dachte brachte fand hörte macht nimmt gibt bewegt springt glaubt vergisst öffnet schließt drückt
        zieht baut bricht will sollte würde könnte wird haben war sind ist Häuser Mäuse neu Feuer Bäume heute
        fünf fünfzig zwölf Apfel Pfeife Pflaume Zug Zeit Zwiebel Schule Schwein Spiel Straße Licht Nacht Buch
        machen suchen Küche Kirche Töchter können mögen müssen üben Übung Bahn Boot Mund Mond Baum Blume ja nein
        bitte danke hallo willkommen genau natürlich Wasser Wein Wolke Woche Vogel fahren fliegen Familie""",
    "es": """el la los un una mi nuestro este y pero con de sobre bajo antes después yo tú nosotros ellos gente
        madre padre hermano amigo médico perro gato caballo pájaro ventana botella papel mesa imagen río montaña
        jardín puente pueblo verano invierno mañana noche música respuesta pregunta problema número bonito feliz
        valiente amarillo pesado sencillo famoso pequeño grande frío quizás siempre nunca mucho muy realmente
        rápido juntos compró pensó trajo encontró oye hace toma da mueve salta cree olvida abre cierra empuja
        quiere debería podría será había era son es casa bueno fuego agua nueve huevo ciudad zapato cinco queso
        jugar hijo gente rojo mujer chico muchacha leche año niño llave lluvia calle perro tierra guerra barco
        vivo beber bomba hombre campo tiempo sombra también hola gracias por favor sí no bienvenido ahora aquí""",
    "fr": """le la les un une mon notre ce et mais avec de sur sous avant après je tu nous ils gens mère père
        frère ami médecin chien chat cheval oiseau fenêtre bouteille papier table image rivière montagne jardin
        pont village été hiver matin soir musique réponse question problème nombre beau heureux brave jaune lourd
        simple calme célèbre petit grand chaud froid peut-être toujours jamais souvent très vraiment vite ensemble
        acheta pensait trouve entend fait prend donne bouge saute croit oublie ouvre ferme pousse tire veut
        devrait pourrait sera avait était sont est maison bon feu eau neuf oeuf ville chaussure cinq fromage jouer
        rouge femme fille lait année clé pluie rue terre bateau boire bombe homme champ temps ombre aussi bonjour
        merci oui non bienvenue maintenant ici lui nuit puis huile peur soeur deux bleu rue lune voiture vouloir""",
    "it": """il la i un una mio nostro questo e ma con di su sotto prima dopo io tu noi loro gente madre padre
        fratello amico medico cane gatto cavallo uccello finestra bottiglia carta tavolo immagine fiume montagna
        giardino ponte paese estate inverno mattina sera musica risposta domanda problema numero bello felice
        giallo pesante semplice famoso piccolo grande caldo freddo forse sempre mai spesso molto davvero veloce
        insieme comprò pensava trova sente fa prende muove salta crede apre chiude spinge vuole dovrebbe potrebbe
        sarà aveva era sono casa buono fuoco acqua nove uovo città scarpa cinque formaggio giocare figlio rosso
        donna ragazzo latte anno chiave pioggia strada terra barca bere bomba uomo campo tempo ombra anche ciao
        grazie sì no benvenuto adesso qui gnocchi famiglia voglio pesce scuola chiesa gelato spiaggia""",
    "pt": """o a os um uma meu nosso este e mas com de sobre antes depois eu você nós eles gente mãe pai irmão
        amigo médico cão gato cavalo pássaro janela garrafa papel mesa imagem rio montanha jardim ponte aldeia
        verão inverno manhã noite música resposta pergunta problema número bonito feliz amarelo pesado simples
        famoso pequeno grande quente frio talvez sempre nunca muito realmente rápido juntos comprou pensou achou
        ouve faz toma move pula acredita esquece abre fecha empurra quer deveria poderia será tinha era são casa
        bom fogo água nove ovo cidade sapato cinco queijo jogar filho vermelho mulher menino leite ano chave chuva
        rua terra barco viver beber bomba homem campo tempo sombra também olá obrigado sim não agora aqui coração""",
    "nl": """de het een mijn onze deze en maar met van over onder voor na ik jij wij zij mensen moeder vader broer
        vriend dokter boer hond kat paard vogel raam fles papier tafel beeld rivier berg tuin brug dorp zomer
        winter morgen avond muziek antwoord vraag probleem nummer mooi gelukkig dapper geel zwaar eenvoudig rustig
        beroemd klein groot warm koud misschien altijd nooit vaak heel echt snel samen kocht dacht bracht vond
        hoort maakt neemt geeft beweegt springt gelooft vergeet opent sluit duwt trekt bouwt breekt wil zou kan
        hebben was zijn is huis muis nieuw vuur bomen vandaag vijf vijftig twaalf appel pijp pruim trein tijd
        school schoen spel straat licht nacht boek keuken kerk mond maan boot bloem ja nee bedankt hallo welkom""",
    "pl": """ten ta to mój nasz i ale z od nad pod przed po ja ty my oni ludzie matka ojciec brat przyjaciel lekarz
        pies kot koń ptak okno butelka papier stół obraz rzeka góra ogród most wieś lato zima rano wieczór muzyka
        odpowiedź pytanie problem liczba piękny szczęśliwy odważny żółty ciężki prosty spokojny sławny mały duży
        ciepły zimny może zawsze nigdy często bardzo naprawdę szybko razem kupił myślał znalazł słyszy robi bierze
        daje skacze wierzy otwiera zamyka pcha buduje chce powinien mógłby będzie miał był są jest dom dobry ogień
        woda dziewięć jajko miasto but pięć ser grać syn czerwony kobieta chłopiec mleko rok klucz deszcz ulica
        ziemia statek żyć pić bomba człowiek pole czas cień także cześć dziękuję tak nie witamy teraz tutaj""",
    "cmn": """我 你 他 我们 你们 他们 今天 明天 昨天 现在 早上 晚上
        朋友 妈妈 爸爸 哥哥 老师 学生 医生 孩子 人们 猫 狗 马 鸟 鱼
        窗户 瓶子 纸 桌子 图片 河 山 花园 桥 村子 夏天 冬天 音乐 问题
        答案 漂亮 高兴 勇敢 黄色 红色 白色 简单 安静 有名 大 小 热 冷
        可能 总是 从不 常常 非常 真的 很快 一起 买 想 找到 听见 做 拿 给
        跑 跳 相信 忘记 打开 关上 推 拉 要 应该 可以 会 有 是 房子
        火 水 九 鸡蛋 城市 鞋子 五 玩 儿子 女人 牛奶 年 钥匙 雨 路
        船 喝 吃 饭 时间 你好 谢谢 不 欢迎 这里 那里 苹果 飞机 父母 部分
        东西 学校 书 月亮 绿色 女儿 旅行 去 雪 语言 中国 世界
        工作 电话 北方 白天 办法 帮忙 跑步 面包 名字 明白 发现 方法 风""",
    "sv": """den det en ett min vår denna och men med från över under före efter jag du vi de folk mor far bror vän
        läkare hund katt häst fågel fönster flaska papper bord bild flod berg trädgård bro by sommar vinter morgon
        kväll musik svar fråga problem nummer vacker glad modig gul tung enkel lugn berömd liten stor varm kall
        kanske alltid aldrig ofta mycket verkligen snabbt tillsammans köpte tänkte hittade hör gör tar ger rör
        hoppar tror glömmer öppnar stänger bygger vill skulle kunde blir hade var är hus mus ny eld träd idag fem
        tolv äpple päron tåg tid skola sko spel gata ljus natt bok kök kyrka mun måne båt blomma ja nej tack hej""",
    "ru": """этот мой наш и но с от над под перед после я ты мы они люди мать отец брат друг врач собака кошка лошадь
        птица окно бутылка бумага стол картина река гора сад мост деревня лето зима утро вечер музыка ответ вопрос
        проблема число красивый счастливый смелый жёлтый тяжёлый простой тихий маленький большой тёплый холодный
        может всегда никогда часто очень правда быстро вместе купил думал нашёл слышит делает берёт даёт прыгает
        верит открывает закрывает строит хочет должен будет был есть дом хороший огонь вода девять яйцо город пять
        сыр играть сын красный женщина мальчик молоко год ключ дождь улица земля жить пить бомба человек поле""",
    "tr": """bu benim bizim ve ama ile önce sonra ben sen biz onlar insanlar anne baba kardeş arkadaş doktor köpek
        kedi at kuş pencere şişe kağıt masa resim nehir dağ bahçe köprü köy yaz kış sabah akşam müzik cevap soru
        sorun sayı güzel mutlu cesur sarı ağır basit sakin ünlü küçük büyük sıcak soğuk belki hep asla çok gerçekten
        hızlı birlikte aldı düşündü buldu duyar yapar verir zıplar inanır unutur açar kapatır iter çeker ister
        olacak vardı ev iyi ateş su dokuz yumurta şehir beş peynir oğul kırmızı kadın çocuk süt yıl yağmur sokak""",
    "cs": """ten ta to můj náš tento a ale z na pod před po já ty my oni lidé máma táta bratr přítel lékař pes
        kočka kůň pták okno láhev papír stůl obraz řeka hora zahrada most vesnice léto zima ráno večer hudba odpověď
        otázka problém číslo krásný šťastný odvážný žlutý těžký tichý slavný malý velký teplý studený možná vždy nikdy
        často velmi opravdu rychle spolu koupil myslel našel slyší dělá bere dává skáče věří otevírá zavírá staví chce
        bude měl byl je jsou dům dobrý oheň voda devět vejce město bota pět sýr hrát syn červený žena chlapec mléko
        rok klíč déšť ulice země žít pít bomba člověk pole čas stín také ahoj děkuji ano ne vítejte teď tady""",
    "fi": """se tämä minun meidän ja mutta kanssa alla ennen jälkeen minä sinä me he ihmiset äiti isä veli ystävä
        lääkäri koira kissa hevonen lintu ikkuna pullo paperi pöytä kuva joki vuori puutarha silta kylä kesä talvi aamu
        ilta musiikki vastaus kysymys ongelma numero kaunis iloinen rohkea keltainen raskas hiljainen kuuluisa pieni
        suuri lämmin kylmä ehkä aina usein hyvin nopeasti yhdessä osti löysi kuulee tekee ottaa antaa hyppää uskoo
        avaa sulkee rakentaa haluaa voisi oli on talo hyvä tuli vesi yhdeksän muna kaupunki kenkä viisi juusto pelata
        poika punainen nainen maito vuosi avain sade katu maa elää juoda pommi mies pelto aika varjo myös hei kiitos""",
    "ca": """el la un una meu nostre aquest i però amb de sobre sota abans després jo tu nosaltres ells gent mare pare
        germà amic metge gos gat cavall ocell finestra ampolla paper taula imatge riu muntanya jardí pont poble estiu
        hivern matí nit música resposta pregunta problema número bonic feliç valent groc pesat senzill famós petit gran
        calent fred potser sempre mai sovint molt ràpid junts va comprar pensava troba sent fa pren dona mou salta creu
        obre tanca vol podria serà era és casa bo foc aigua nou ou ciutat sabata cinc formatge jugar fill vermell dona
        noi llet any clau pluja carrer terra vaixell viure beure bomba home camp temps ombra també hola gràcies""",
}

# The share of each language; English twice, because most users' recordings will be.
_VOICES = {
    "en-us": ("en", 0.22),
    "en-gb-x-rp": ("en", 0.08),
    "en-gb-scotland": ("en", 0.03),
    "de": ("de", 0.1),
    "es": ("es", 0.08),
    "es-419": ("es", 0.03),
    "fr": ("fr", 0.08),
    "it": ("it", 0.07),
    "pt-br": ("pt", 0.06),
    "nl": ("nl", 0.05),
    "pl": ("pl", 0.05),
    "cmn": ("cmn", 0.08),
    "sv": ("sv", 0.03),
    "ru": ("ru", 0.03),
    "tr": ("tr", 0.01),
}

LANGUAGES = tuple(_VOICES)
"""espeak voices the corpus speaks with."""

OTHERS = ("cs", "fi", "ca")
"""Languages that only recorded speakers speak."""

SHARES = np.array([share for _, share in _VOICES.values()])
SHARES = SHARES / SHARES.sum()


def language_number(language: str) -> int:
    """Number of the language "en" or "cs" among `LANGUAGES` (the first espeak voice that speaks it) and `OTHERS`."""
    spoken = [_VOICES[name][0] for name in LANGUAGES]
    return spoken.index(language) if language in spoken else len(LANGUAGES) + OTHERS.index(language)


_ONSETS = tuple("p b m f v w t d n l s z r k g h j sh ch st pr bl fl gr pl br tr sm sp kl".split())  # noqa: SIM905
_NUCLEI = ("a", "e", "i", "o", "u", "ai", "au", "oo", "ee", "ou", "ia")
_CODAS = ["", "", "", "n", "m", "l", "s", "p", "b", "t", "k", "f", "v", "r"]


def made_up_word(rng: np.random.Generator) -> str:
    """One to three syllables that any of the languages can pronounce somehow."""
    syllable = [str(rng.choice(_ONSETS)) + str(rng.choice(_NUCLEI)) + str(rng.choice(_CODAS)) for _ in range(3)]
    return "".join(syllable[: int(rng.integers(1, 4))])


def sentence(language: str, rng: np.random.Generator) -> str:
    """A random sentence of 3 to 14 words for an espeak voice of `LANGUAGES`, or in a language such as "en" or "cs"."""
    key = _VOICES[language][0] if language in _VOICES else language
    words = _WORDS[key].split()
    parts: list[str] = []
    for _ in range(int(rng.integers(3, 15))):
        kind = rng.random()
        if kind < 0.04:
            word = str(rng.integers(2, 3000))
        elif kind < 0.12 and key not in ("cmn", "ru"):
            word = made_up_word(rng)
        else:
            word = str(rng.choice(words))
        parts.append(word + ("," if rng.random() < 0.1 else ""))
    text = ("" if key == "cmn" else " ").join(parts).rstrip(",")
    return text + str(rng.choice([".", ".", ".", "?", "!"]))
