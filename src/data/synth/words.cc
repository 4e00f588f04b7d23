#include "data/synth/words.h"

#include <array>
#include <cctype>

namespace vl2::data::synth {
namespace {

constexpr std::string_view kWords =
    "able about above act add after again age air all also always animal answer any apple area arm art ask away baby "
    "back bad ball bank base bath be bear beat bed bee begin bell best big bird bit black blood blow blue board boat "
    "body bone book both bottle bottom box boy bread break bridge bright bring brother brown build bus busy but button "
    "buy cake call camera can car card care carry cat center chair chance cheese child church circle city class clean "
    "clear clock close cloud coat coffee cold color come cook cool copy corn corner cost count country cover cow cream "
    "cross cry cup cut dance dark date day deep desk dinner dish doctor dog door double down draw dream dress drink "
    "drive "
    "dry duck dust each ear early earth east easy eat egg eight empty end enter even every exit eye face fact fall "
    "family "
    "farm fast father feel few field fight fill film find fine finger fire first fish five flag flat floor flower fly "
    "food foot force forest fork four free fresh friend front fruit full fun game garden gate gift girl give glass go "
    "goat gold good grass great green ground group grow hair half hall hand happy hard hat have head hear heart heavy "
    "help here high hill home honey hope horse hot hotel hour house human ice idea inch ink iron island jam job juice "
    "jump just keep key kind king kitchen kite knee knife lake lamp land large last late laugh law leaf learn left leg "
    "lemon letter level library life light like line lion lip list little live lock long look loud love low lucky "
    "lunch "
    "machine mail make man many map market match meal meat meet metal milk mind minute mirror money monkey month moon "
    "morning mother mountain mouse mouth move movie much music nail name narrow near neck need nest never new news "
    "next "
    "nice night nine noise north nose note number nurse ocean off office often oil old one onion open orange order "
    "other "
    "oven over own page paint pair palm paper parent park part party past path pay peace pen people pepper phone photo "
    "piano picture piece pig pink place plan plant plate play please pocket point police pool poor post pot potato "
    "power "
    "press price pull pupil push queen quick quiet rabbit race radio rain read ready red rest rice rich ride right "
    "ring "
    "river road rock roof room root rose round rule run safe salt same sand save school science sea season seat second "
    "see seed sell send seven shade shape sharp sheep shelf ship shirt shoe shop short shoulder show sick side sign "
    "silver simple sing sister sit six size skin sky sleep slow small smart smell smile smoke snow soap soft some song "
    "soon sound soup south space spoon sport spring square stage stairs star start station stay steel step stone stop "
    "store story street strong student sugar summer sun sweet swim table tail take talk tall taste taxi tea teach team "
    "tell ten test thank thick thin thing think third three throw ticket tie tiger time tired today toe tomato tool "
    "tooth "
    "top touch town toy track train travel tree trip truck true try turn twelve twenty two uncle under until use "
    "valley "
    "very village visit voice wait walk wall want warm wash watch water wave way weak wear weather week welcome west "
    "wet "
    "what wheel when white wide wife wild win wind window wine wing winter wish woman wood word work world worm write "
    "wrong yard year yellow yes young zebra zero zoo";

constexpr std::array<std::string_view, 24> kGoods = {
    "tea",  "milk", "bread", "eggs",  "rice",  "soup",  "cake",  "fish",  "salt",  "beef", "corn", "nuts",
    "plum", "pear", "apple", "juice", "honey", "pasta", "sugar", "lemon", "beans", "ham",  "jam",  "pie"};
constexpr std::array<std::string_view, 20> kNames = {"Tom",  "Ann",  "Bob",  "Eva",  "Max",  "Mia",  "Ben",
                                                     "Amy",  "Leo",  "Zoe",  "Sam",  "Lily", "Jack", "Rosa",
                                                     "Paul", "Nina", "Eric", "Kate", "Hugo", "Vera"};
constexpr std::array<std::string_view, 48> kChinese = {
    "红色", "绿色", "蓝色", "黄色", "黑色", "白色", "圆形", "星形", "你好", "中国", "北京", "上海",
    "学校", "老师", "学生", "朋友", "今天", "明天", "早上", "晚上", "苹果", "面包", "牛奶", "咖啡",
    "茶",   "水",   "火",   "山",   "人",   "天",   "日",   "月",   "大",   "小",   "上",   "下",
    "出口", "入口", "欢迎", "谢谢", "商店", "医院", "公园", "车站", "花",   "鱼",   "鸟",   "车"};

// Letters that look like others in some face (l and I, O and 0) only stand in real words.
constexpr std::string_view kLower = "abcdefghijkmnopqrstuvwxyz";
constexpr std::string_view kUpper = "ABCDEFGHJKLMNPQRSTUVWXYZ";

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

template <size_t N>
std::vector<std::string_view> sample(const std::array<std::string_view, N>& from, size_t n, Draws& draws) {
  std::vector<std::string_view> all(from.begin(), from.end());
  draws.shuffle(all);
  all.resize(std::min(n, N));
  return all;
}

}  // namespace

bool is_held_out(std::string_view word) { return fnv1a64(word) % 8 == 5; }

Lexicon::Lexicon(Split split) {
  for (size_t at = 0; at < kWords.size();) {
    const size_t end = std::min(kWords.find(' ', at), kWords.size());
    const std::string_view word = kWords.substr(at, end - at);
    if (split == Split::kTest || !is_held_out(word)) words_.push_back(word);
    at = end + 1;
  }
}

std::string Lexicon::written_word(Draws& draws) const {
  if (draws.chance(0.6)) {
    std::string word(draws.pick(words_));
    const double style = draws.real(0, 1);
    if (style < 0.25) return upper(word);
    if (style < 0.45) word[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(word[0])));
    return word;
  }
  const std::string_view letters = draws.chance(0.3) ? kUpper : kLower;
  const int64_t length = draws.between(2, 8);
  std::string text;
  for (int64_t i = 0; i < length; ++i) text += draws.pick(letters);
  return text;
}

std::string Lexicon::number(Draws& draws) const {
  const int64_t digits = draws.between(1, 4);
  std::string text;
  for (int64_t i = 0; i < digits; ++i) text += static_cast<char>('0' + draws.between(i == 0 && digits > 1 ? 1 : 0, 9));
  if (digits < 4 && draws.chance(0.15)) {
    text += '.';
    text += static_cast<char>('0' + draws.between(0, 9));
  }
  return text;
}

std::string_view Lexicon::chinese_word(Draws& draws) const { return draws.pick(kChinese); }

std::vector<std::string_view> Lexicon::goods(size_t n, Draws& draws) const { return sample(kGoods, n, draws); }

std::vector<std::string_view> Lexicon::names(size_t n, Draws& draws) const { return sample(kNames, n, draws); }

}  // namespace vl2::data::synth
