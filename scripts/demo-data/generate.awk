# Writes the demo's data as SQL, the same on every run and with every awk: one transaction a user, every INSERT with the rows of
# one user only, spread over STREAMS files so that several connections can load.
#
#   awk -v USERS=2000 -v STREAMS=4 -v OUT=folder -f generate.awk countries.csv
#
# folder/reference.sql   the reference table
# folder/load-N.sql      the users of stream N; after each, \echo tells how many rows it was
# folder/finish.sql      moves the identities behind the loaded ids
# folder/counts          table and number of rows, one a line

BEGIN {
    FS = ","
    seed = 20260101
    words()
}

NR > 1 {
    code[++countries] = $1
    values = values (countries > 1 ? ",\n  " : "\n  ") "(" quote($1) ", " quote($2) ", " quote($3) ")"
}

END {
    file = OUT "/reference.sql"
    print "insert into countries (code, name, continent) values" values ";" > file
    close(file)
    for (u = 1; u <= USERS; u++) write_posts(u)
    for (u = 1; u <= USERS; u++) write_user(u)
    finish()
}

# Park and Miller's generator: all products stay exact in a double. 1..n
function draw(n) {
    seed = (seed * 16807) % 2147483647
    return seed % n + 1
}

# The low numbers are popular, as some people are.
function popular(    r) {
    r = draw(1000000) / 1000000
    return int((USERS - 1) * r * r) + 1
}

function quote(text) {
    gsub(/'/, "''", text)
    return "'" text "'"
}

# A minute of the year 2025, as a literal that means the same in every session.
function moment(minute,    day, month) {
    day = int(minute / 1440)
    for (month = 1; day >= days[month]; month++) day -= days[month]
    return sprintf("'2025-%02d-%02d %02d:%02d:00+00'", month, day + 1, int(minute % 1440 / 60), minute % 60)
}

# 1 to 19 posts, in the order of time, no two posts of the network in one minute.
function write_posts(u,    n, i, j, minute) {
    n = draw(19)
    first[u] = posts + 1
    for (i = 1; i <= n; i++) {
        minute = (++posts * 311041) % 525600
        for (j = posts; j > first[u] && at[j - 1] > minute; j--) at[j] = at[j - 1]
        at[j] = minute
        body[posts] = sentence()
    }
    last[u] = posts
}

function sentence() { return opening[draw(openings)] " " thing[draw(things)] ending[draw(endings)] }

function write_user(u,    file, rows) {
    file = OUT "/load-" (u % STREAMS + 1) ".sql"
    rows = 1
    print "begin;" > file
    print "insert into users (id, name, country, joined_at) values (" u ", " \
        quote(given[draw(givens)] " " family[draw(families)]) ", " quote(code[draw(countries)]) ", " moment(draw(1440) - 1) ");" > file
    rows += insert(file, "posts", "user_id, id, body, created_at", post_rows(u))
    rows += insert(file, "follows", "follower_id, followee_id, created_at", follow_rows(u))
    rows += insert(file, "likes", "user_id, author_id, post_id, created_at", like_rows(u))
    rows += insert(file, "timeline", "user_id, author_id, post_id, body, created_at", timeline_rows(u))
    print "commit;" > file
    print "\\echo " rows > file
}

# row[1..n] is what the *_rows functions leave behind
function insert(file, table, columns, n,    i) {
    if (n == 0) return 0
    print "insert into " table " (" columns ") values" > file
    for (i = 1; i <= n; i++) print "  (" row[i] ")" (i < n ? "," : ";") > file
    total[table] += n
    return n
}

function post_rows(u,    i, n) {
    for (i = first[u]; i <= last[u]; i++) row[++n] = u ", " i ", " quote(body[i]) ", " moment(at[i])
    return n + 0
}

# followed[1..follow_count] stays for the timeline
function follow_rows(u,    wanted, tries, who, seen) {
    follow_count = 0
    wanted = 4 + draw(7)
    for (tries = 0; tries < 10 * wanted && follow_count < wanted; tries++) {
        who = popular()
        if (who == u || (who in seen)) continue
        seen[who] = 1
        followed[++follow_count] = who
        row[follow_count] = u ", " who ", " moment(draw(525600) - 1)
    }
    return follow_count
}

function like_rows(u,    wanted, n, author, post, seen) {
    for (wanted = 2 + draw(11); wanted > 0; wanted--) {
        author = popular()
        post = first[author] + draw(last[author] - first[author] + 1) - 1
        if (post in seen) continue
        seen[post] = 1
        row[++n] = u ", " author ", " post ", " moment(draw(525600) - 1)
    }
    return n + 0
}

# the three newest posts of everyone this user follows
function timeline_rows(u,    i, p, n, author) {
    for (i = 1; i <= follow_count; i++) {
        author = followed[i]
        for (p = last[author]; p >= first[author] && p > last[author] - 3; p--)
            row[++n] = u ", " author ", " p ", " quote(body[p]) ", " moment(at[p])
    }
    return n + 0
}

function finish(    file, table) {
    file = OUT "/finish.sql"
    print "alter table users alter column id restart with " USERS + 1 ";" > file
    print "alter table posts alter column id restart with " posts + 1 ";" > file
    file = OUT "/counts"
    total["users"] = USERS
    total["countries"] = countries
    for (table in total) print table "\t" total[table] > file
}

function words(    month) {
    split("31 28 31 30 31 30 31 31 30 31 30 31", days, " ")
    givens = split("Aisha|Akira|Ana|André|Anouk|Bao|Björn|Camila|Chidi|Chloé|Daniel|Dmitri|Elena|Emre|Fatima|Fiona|Gabriel|Greta|Hana|Hugo|Ines|Ivan|Jamal|Jana|João|Kaito|Kwame|Leila|Liam|Lucía|Maja|Malik|Mei|Milan|Nadia|Noah|Olga|Omar|Priya|Rafael|Rosa|Sana|Sven|Tariq|Thandi|Tom|Uma|Yara|Yusuf|Zoë", given, "|")
    families = split("Abebe|Almeida|Andersson|Bauer|Chen|Costa|Dubois|Eriksen|Fernández|Fischer|García|Haddad|Hansen|Hoang|Ito|Ivanova|Jensen|Kaya|Khan|Kim|Kowalski|Kumar|Lehmann|Lopez|Mbeki|Meyer|Moreau|Müller|Mwangi|N'Diaye|Nakamura|Novák|O'Brien|Okafor|Patel|Petrov|Popescu|Rossi|Sato|Schmidt|Silva|Singh|Smith|Tanaka|Torres|van Dijk|Virtanen|Wang|Yilmaz|Zhang", family, "|")
    openings = split("Just finished|Can't stop thinking about|Today I learned about|Looking for|Does anybody else like|Finally tried|A small note on|Don't underestimate|Five years ago I discovered|My neighbour's view of|Grateful for|100 % in favour of|Still confused by", opening, "|")
    things = split("a café at the end of the street|sourdough bread|night trains|the new library|mountain weather|repairing old radios|a book called \"Rows & Columns\"|naïve optimism|city bicycles|growing tomatoes|learning the accordion|long walks|winter swimming|chess openings|a film nobody has seen|birds in the garden|handwritten letters|foggy mornings|street food|a very long spreadsheet", thing, "|")
    endings = split(".|!|, again.|; more tomorrow.| ☕| -- what a day|. It's worth it.|?| (really).|…", ending, "|")
}
