"""Words that tell English from other languages in Latin script, where letters do not."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The most frequent plain ASCII words of each language, without those that English, its technical writing, pinyin or
# romanised Japanese also have.
_WORDS: dict[str, str] = {
    "German": (
        "aber aktuellen allen alten analysieren arbeiten auch auf aus basiert bedeutet beeinflussen beeinflusst "
        "befasst beispielsweise beitragen bekannt bereits besonders besteht bestimmten bezieht bietet darauf dass "
        "davon dem diesem dieser durch einem einer eines eingesetzt einmal enorme entscheidende entscheidender "
        "entwickeln entwickelt erheblichen explizit faszinierendes gemacht gewonnen geworden gibt globale globalen "
        "handelt hatte helfen heutigen hilft ich identifizieren ihr ihre ihren ihrer immer indem ist jedoch kleine "
        "kleinen komplexe konzentriert lebte lernen letzten mehr mehrere menschliche mich nach namens nicht "
        "noch nur oder ohne personalisierte programmiert schaffen schnell schwerwiegende sehr seit sich sind sogar "
        "sollte sollten sondern sowie sowohl soziale sozialen spielen spielt treffen umfasst und uns unser unserem "
        "unserer unseres unter untersucht verbessern verschiedene verschiedenen verstehen verwenden verwendet viel "
        "viele vielen vom vor wahrscheinlich warum weiter welche weltweit wenn werde werden wesentlicher wichtig "
        "wichtige wichtiger wichtigsten wie wir wird wirtschaftlichen wurde wurden zum zunehmend zur zwei zwischen"
    ),
    "Spanish": (
        "actividad actividades actualidad algunas algunos alimentos aprender aprendizaje aspectos ayudar ayudarte "
        "beneficios calidad cambio cantidad capacidad clientes comunes conocido considerar constante convertido "
        "crear crecimiento cualquier cuando datos decisiones desarrollar desarrollo desde diferentes dispositivos "
        "efectiva efectos eficiencia embargo empresa empresas enfermedades escuela esencial especialmente esta "
        "estado estas este estos estudiantes experiencia factores formas funciones garantizar grandes habilidades "
        "hacer herramienta herramientas historia humanos importancia importante importantes incluso incluye "
        "incluyen incluyendo inteligencia llamado lugar maneras mejor mejorar mercado mientras muchas muchos muy "
        "naturales necesidades negocio nuestra nuestras nuestro nuestros nuevas objetivo objetivos ofrecer otras "
        "otros pasos permite populares por presento primer principales problemas proceso productos puedes razones "
        "realizar reducir revolucionado seguridad servicios sido siempre significativo sistema sistemas sobre "
        "sociales sociedad sus tareas tiempo tienes todos trabajo tus utilizar varias variedad varios vez vidas"
    ),
    "French": (
        "aider ainsi alors artificielle aussi autres avait avantages avec besoins certaines certains cet cette "
        "changement comme complexe comprendre connaissances connu contre croissance dans depuis devenir devenue "
        "devenus difficile domaines effet effets efficace elle enfants entreprise entreprises environnement "
        "essentiel essentielle facteurs fait famille financiers forme formes humains ils importantes jeux leur "
        "leurs mais meilleure mettre mieux mondiale moyen nombreuses nombreux notre offrant offre offrent outil "
        "outils partager pendant permet permettant permettent personne personnes petites peut peuvent physique "
        "plusieurs populaires potentiel pour pourquoi pourraient pourrait pouvez pratique prendre principaux "
        "processus produits propres quelques raisons rapidement recherche scientifiques secteurs serait seulement "
        "sociaux sont souvent suivre sujet sur technologie technologiques telles tels temps toujours travers "
        "utilise votre vous"
    ),
    "Indonesian": (
        "adalah algoritma aplikasi aspek bahwa baik banyak bekerja belajar bentuk berbagai berbeda berdasarkan "
        "berfokus berikut berkembang bersama besar dalam dampak dapat dikenal diperlukan efektif efisien efisiensi "
        "ekosistem faktor harus hidup hingga hubungan iklim ilmu individu industri informasi jelas jenis jumlah "
        "kecerdasan kecil kemampuan kerja keterampilan kompleks konsep konsumsi lain lainnya lebih luar malam "
        "manfaat masalah masyarakat melalui melibatkan melihat memastikan membahas membangun membantu membawa "
        "memberikan membuat mempelajari mempengaruhi memungkinkan menarik menawarkan mencakup menciptakan mendalam "
        "mengambil menganalisis mengatur mengembangkan mengidentifikasi mengubah meningkatkan menjadi menunjukkan "
        "menyebabkan mungkin negatif pasar pembelajaran pengembangan percaya perilaku perkembangan pernah pertama "
        "pertumbuhan pesat politik produk proses risiko rumah sangat sebelumnya sebuah sehat sehingga sejak sekitar "
        "seluruh seperti sering serius setiap signifikan solusi sumber telah tempat terakhir terbaik terdapat "
        "terhadap terjadi terkait termasuk tersebut tertentu terus tidak tinggal tugas umum unik untuk waktu"
    ),
    "Italian": (
        "affrontare agli alcune alcuni algoritmi altre altri analizzare applicazioni apprendimento argomento "
        "articolo artificiale aspetti attraverso automatico avere aveva avuto benefici benessere cambiamenti "
        "cambiamento chiave clienti climatico competenze comprendere comunicazione concentra conseguenze creare "
        "creazione crescita dalla degli delle deve diversi economica ecosistemi effetti efficace esempio esperienze "
        "essenziale essere fattori fondamentale fornire futuro gestire giorno giovane gli globale governo grandi "
        "identificare imparare impatto importante importanti importanza informazioni lavoro livello lungo luogo "
        "macchine malattie mentre mercato migliorare modelli molte molti molto negli nella nelle nostra nostre "
        "nostri nostro numerosi nuove obiettivi permette persone portato possibile possono potrebbe potrebbero "
        "precedenti prendere prestazioni primo principali problemi processi processo prodotti produzione proprie "
        "quando quanto questa questi questo ricerca ridurre risorse ruolo saggio sempre servizi sfide sicurezza "
        "significa significativo sistema sistemi sociali spesso stanno stata stato strumento studenti successo "
        "sulla sulle sviluppare sviluppo tecnologia tecnologie tutti tutto ultimi vantaggi volta"
    ),
    "Portuguese": (
        "acesso acordo ajudar algoritmos algumas alguns alimentos analisar anos apenas aprendizagem aquecimento "
        "artigo aspectos atual aumentar capazes computadores conhecida conhecido crescimento criar dados desafios "
        "desde desenvolver desenvolvimento deve devido diferentes disso diversas diversos economia efeitos eficaz "
        "eles empresa empresas enquanto entender essa essencial estava estudo eventos exemplo explorar fazer foi "
        "futuro garantir geralmente gerenciar grandes habilidades havia identificar impactos importante importantes "
        "incluem inclui incluindo isso jovem lugar maior mais maneiras manter melhor melhorar mercado mesmo muitas "
        "muitos naturais nossa nossas nosso nossos novas objetivo oportunidades outras outros partir pelas pelo "
        "pequena permite permitindo pesquisa pessoas planeta podem poder por potencial primeiro principais "
        "problemas processo produtos qualquer quando realizar recursos redor reduzir sejam sempre serem setores "
        "seus sido significa significativas significativo sistema sistemas sobre sociais sociedade suas tarefas "
        "tecnologia tecnologias tipos todas todos trabalho variedade vez vezes vidas"
    ),
    "Turkish": (
        "alanlarda almak analiz ancak azaltmaya becerileri belirlemek belirli benzer beslenme bilgi bilgiler "
        "bilgisayar bilim bir biridir birlikte ciddi destek devam dijital durumlarda edebilir edebilirsiniz "
        "eder ederek edilir ekonomik etkiler etkileri etkili etkisi etkisini etmek etmelerine etmeye fazla finansal "
        "fiziksel geldi gelecekteki geleneksel gelir genellikle gerekir gerekli gerekmektedir giderek hareket hedef "
        "herhangi hizmet ifade ilgili ilk insanlar izlemek kabul kadar kapsar karar kimyasal kolay kontrol konudur "
        "kuantum kullanarak kullanmak mevcut nakit nedeniyle nedir odaklanan olabilir olacak olanak olarak oldu "
        "olmak olmayan olup olur pazar potansiyel sahip sahiptir sayesinde seyahat sigorta sistemi sistemleri "
        "sistemlerinin sosyal sunar takip teknikler teknikleri teknoloji teknolojidir teknolojinin temsil tercih "
        "terimdir tespit ticaret tipik toplumun uygulamalar uygun verici verilerden verileri verilerini verimli "
        "veya yapay yapmak yasal yemek yeteneklerini yiyecekler yoktur zamanlar"
    ),
}

FOREIGN_WORDS = _words(" ".join(_WORDS.values()))

# Too short or too shared to convict alone; directly before a foreign word they belong to it: "la méthode".
LEADING_WORDS = _words(
    "al au aux da das de del dem den der des di die do dos du e ein el en et gli il kein la las le les lo los mit "
    "ne o os para por pour que se si son sous un una und une uno van vom von y zu"
)

# English words that keep an accent.
ENGLISH_WITH_ACCENT = _words(
    "apéritif attaché blasé brûlée café cafés cafetière canapé canapés château cliché clichés communiqué consommé "
    "crème crêpe crêpes crudités débutante décor déjà détente éclair élite émigré entrée entrées exposé façade "
    "façades fête fiancé fiancée flambé glacé jalapeño jalapeños matinée mélange naïve naïveté passé pâté piñata "
    "piñatas précis première protégé protégés purée puréed raison-d'être résumé résumés rosé roué sauté sautéed "
    "sautéing soirée soufflé touché über voilà vis-à-vis zoë coöperate coöperation naïvely"
)

# Frequent English words: a foreign phrase does not reach back over them.
COMMON_ENGLISH = _words(
    "a able about above access account across action active add additional address after again algorithm all allow "
    "allows along already also always am amount an and another answer any app application applications are around "
    "as at attempt avoid back be because become been before below best better between bit body both build but by "
    "call can cannot case cases certain chain change changes character characters check child class clear close "
    "code color common complete complex conditions connection contain contains content context control core cost "
    "could count create creates current data database day days default describe description despite destination "
    "determine development did difference different display do document does done double down draw due each effect "
    "effective either elements else empty enable end entire entry environment equivalent errors etc even event "
    "events every example exit expression fails feature field fields file find first fix flags follow for form "
    "format found free from full function future generate generation get give given global good group groups had "
    "has have he health healthcare help here high history home host hours how human i identify if image "
    "implementation important improve in include index info information instance instead into is issues it item "
    "items its job jobs json just keep key keys keywords kind know language large last later least left length less "
    "level like line lines link list local location locations long longer look lower machine made main make makes "
    "many map mark match maximum may me means message methods might minutes model models more most move much "
    "multiple must my name names necessary needs net network never new next no normal not notice now number object "
    "objects of off oh ok old on one online open operations option options or order organizations original other "
    "others our out output over own package pages part particular pass path patterns people per performance place "
    "plan point points policy positive possible present previous print problems process processes product products "
    "program project projects prompt provide provides public put question raise rather read real reason recent "
    "reduce reference refers relevant remove replace report request require resources response rest result results "
    "return returns right role route rules run safe safety same say search second section security see service "
    "services set sets several share short should show shows similar simple since single size small so software "
    "some sort source sources space special specific standard start state statement step still store strong "
    "structure style subject such summary support sure system systems table take takes target tell terms test tests "
    "text than that the their them then there therefore these they things this those three through time times title "
    "to together too tool tools top topic total transform true try turn two type types under unique up us usage use "
    "user users uses valid value values variable variables various version very via view virtual visual vs want was "
    "way ways we well were what when where whether which while who whole whose why will with within without word "
    "words work works world would write written year yield you your zero"
)
